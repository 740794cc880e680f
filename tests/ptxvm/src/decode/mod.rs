//! Turns an opcode and its operands into an [`Op`]. Whatever the subset does not hold is refused here, by name.

mod arithmetic;
mod collective;
mod memory;
mod moves;

use crate::instruction::{Address, Condition, Content, Op, SINK, Slot, Special};
use crate::module::Param;
use crate::operand::{Base, Operand};
use crate::scope::{Names, Register, Symbol};
use crate::statistics::Class;
use crate::types::{Meaning, Type};

/// The result of decoding; the message needs only the line before it.
pub(crate) type Decoded<T> = Result<T, String>;

/// An opcode such as `ld.global.v4.f32`, read modifier by modifier.
pub(crate) struct Opcode<'a> {
    pub mnemonic: &'a str,
    modifiers: Vec<&'a str>,
    next: usize,
}

impl<'a> Opcode<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut parts = text.split('.');
        Self { mnemonic: parts.next().unwrap_or(""), modifiers: parts.collect(), next: 0 }
    }

    pub fn peek(&self) -> &'a str {
        self.modifiers.get(self.next).copied().unwrap_or("")
    }

    /// Takes the modifier if it is next.
    pub fn take(&mut self, modifier: &str) -> bool {
        let found = self.peek() == modifier && self.next < self.modifiers.len();
        self.next += usize::from(found);
        found
    }

    /// Takes any of the modifiers if it is next.
    pub fn take_any(&mut self, modifiers: &[&str]) -> Option<&'a str> {
        let found = self.peek();
        modifiers.contains(&found).then(|| {
            self.next += 1;
            found
        })
    }

    /// Takes the modifiers one after another if all of them are next.
    pub fn take_all(&mut self, modifiers: &[&str]) -> bool {
        let found = self.modifiers[self.next..].starts_with(modifiers);
        self.next += if found { modifiers.len() } else { 0 };
        found
    }

    pub fn ty(&mut self) -> Decoded<Type> {
        match Type::parse(self.peek()) {
            Some(ty) => {
                self.next += 1;
                Ok(ty)
            }
            None => Err(self.unsupported()),
        }
    }

    /// The message for a modifier that is not known at this place.
    pub fn unsupported(&self) -> String {
        match self.modifiers.get(self.next) {
            Some(modifier) => format!("`{}` with `.{modifier}` is not supported", self.mnemonic),
            None => format!("`{}` lacks a modifier", self.mnemonic),
        }
    }

    /// All modifiers must have been taken.
    fn finish(&self) -> Decoded<()> {
        if self.next == self.modifiers.len() { Ok(()) } else { Err(self.unsupported()) }
    }
}

/// Decodes the instructions of one kernel.
pub(crate) struct Decoder<'a> {
    pub names: Names,
    pub params: &'a [Param],
}

/// Exactly `N` operands.
pub(crate) fn exactly<'o, const N: usize>(opcode: &Opcode, operands: &'o [Operand]) -> Decoded<&'o [Operand; N]> {
    operands.try_into().map_err(|_| format!("`{}` has {} operands; expected {N}", opcode.mnemonic, operands.len()))
}

impl Decoder<'_> {
    /// Decodes anything but branches.
    pub fn decode(&mut self, text: &str, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let mut opcode = Opcode::new(text);
        let op = &mut opcode;
        let decoded = match op.mnemonic {
            "mov" => self.mov(op, operands),
            "cvta" => self.convert_address(op, operands),
            "cvt" => self.convert(op, operands),
            "selp" | "slct" => self.select(op, operands),
            "setp" => self.compare(op, operands),
            "testp" => self.test_float(op, operands),
            "add" | "sub" | "mul" | "mad" | "div" | "rem" | "min" | "max" | "neg" | "abs" | "fma" | "rcp" | "sqrt" | "rsqrt"
            | "ex2" | "lg2" | "tanh" | "sin" | "cos" | "copysign" => self.arithmetic(op, operands),
            "and" | "or" | "xor" | "not" | "shl" | "shr" | "shf" | "lop3" | "prmt" | "bfe" | "bfi" | "popc" | "clz" | "brev" => {
                self.bits(op, operands)
            }
            "ld" | "ldu" => self.load(op, operands),
            "st" => self.store(op, operands),
            "atom" | "red" => self.atomic(op, operands),
            "cp" => self.copy_async(op, operands),
            "ldmatrix" => self.load_matrix(op, operands),
            "prefetch" | "prefetchu" => self.prefetch(op, operands),
            "membar" | "fence" => self.fence(op, operands),
            "mma" => self.matrix_multiply(op, operands),
            "shfl" => self.shuffle(op, operands),
            "vote" => self.vote(op, operands),
            "match" => self.match_lanes(op, operands),
            "redux" => self.reduce(op, operands),
            "activemask" => self.active_mask(op, operands),
            "bar" | "barrier" => self.barrier(op, operands),
            "ret" | "exit" => {
                op.take("uni");
                exactly::<0>(op, operands)?;
                Ok((Op::Exit, Class::Control))
            }
            "trap" => exactly::<0>(op, operands).map(|_| (Op::Trap, Class::Control)),
            _ => return Err(format!("the instruction `{text}` is not supported")),
        }?;
        opcode.finish()?;
        Ok(decoded)
    }

    /// Refuses a register that PTX does not let stand for a value of type `ty`.
    fn check(register: Register, ty: Type) -> Decoded<()> {
        let (found, wanted) = (register.ty.meaning(), ty.meaning());
        let agree = found == wanted || found == Meaning::Bits || wanted == Meaning::Bits;
        match agree && register.ty.bytes() == ty.bytes() {
            true => Ok(()),
            false => Err(format!("found a .{} register where .{} is needed", register.ty.name(), ty.name())),
        }
    }

    /// The bits of a literal as a value of type `ty`.
    fn literal(operand: &Operand, ty: Type) -> Decoded<u64> {
        match *operand {
            Operand::Integer(value) if !ty.is_float() => {
                let bits = 8 * ty.bytes().max(1);
                match (-(1i128 << (bits - 1))..1i128 << bits).contains(&value) {
                    true => Ok(value as u64 & ty.mask()),
                    false => Err(format!("the integer {value} does not fit .{}", ty.name())),
                }
            }
            Operand::Float(value) if ty.bytes() == 4 && !ty.is_integer() => Ok((value as f32).to_bits().into()),
            Operand::Float(value) if ty.bytes() == 8 && !ty.is_integer() => Ok(value.to_bits()),
            _ => Err(format!("found {} where a value of type .{} is needed", operand.describe(), ty.name())),
        }
    }

    /// The place of a source operand of type `ty`.
    pub fn source(&mut self, operand: &Operand, ty: Type) -> Decoded<Slot> {
        match operand {
            Operand::Register(register) => Self::check(*register, ty).map(|()| register.slot),
            Operand::Special(Special::Clock | Special::Clock64) => Err("%clock is read by mov only".into()),
            Operand::Special(special) if ty.bytes() == 4 && !ty.is_float() => self.names.fixed(Content::Special(*special)),
            Operand::Symbol(symbol, offset) if ty.bytes() >= 4 && !ty.is_float() => self.symbol(*symbol, *offset),
            literal => {
                let bits = Self::literal(literal, ty)?;
                self.names.constant(bits)
            }
        }
    }

    /// The place that holds the address of a symbol.
    fn symbol(&mut self, symbol: Symbol, offset: i64) -> Decoded<Slot> {
        match symbol {
            Symbol::Shared(index) => self.names.fixed(Content::Shared(index, offset as u64)),
            Symbol::Param(index) => self.names.constant(u64::from(self.params[index].offset).wrapping_add(offset as u64)),
        }
    }

    /// The place of a destination of type `ty`.
    pub fn destination(&mut self, operand: &Operand, ty: Type) -> Decoded<Slot> {
        match operand {
            Operand::Register(register) => Self::check(*register, ty).map(|()| register.slot),
            other => Err(format!("found {} as destination; expected a .{} register", other.describe(), ty.name())),
        }
    }

    /// A predicate that may be negated.
    pub fn condition(operand: &Operand) -> Decoded<Condition> {
        match operand {
            Operand::Predicate(condition) => Ok(*condition),
            other => Err(format!("found {}; expected a predicate", other.describe())),
        }
    }

    /// A predicate to write.
    pub fn predicate(operand: &Operand) -> Decoded<Slot> {
        match operand {
            Operand::Predicate(Condition { predicate, negated: false }) => Ok(*predicate),
            Operand::Sink => Ok(SINK),
            other => Err(format!("found {} as destination; expected a predicate", other.describe())),
        }
    }

    /// `d` or `d|p`: the main destination and that of the predicate.
    pub fn with_predicate(operand: &Operand) -> Decoded<(&Operand, Option<Slot>)> {
        match operand {
            Operand::Pair(pair) => Ok((&pair.0, Some(Self::predicate(&pair.1)?))),
            other => Ok((other, None)),
        }
    }

    /// The elements of a vector operand, all of one type; `_` where `sinks` allows it.
    pub fn vector<const N: usize>(&mut self, operand: &Operand, count: usize, ty: Type, destination: bool) -> Decoded<[Slot; N]> {
        let single = std::slice::from_ref(operand);
        let elements = match operand {
            Operand::Vector(elements) => elements.as_slice(),
            _ if count == 1 => single,
            other => return Err(format!("found {}; expected a vector of {count}", other.describe())),
        };
        if elements.len() != count || count > N {
            return Err(format!("found a vector of {}; expected one of {count}", elements.len()));
        }
        let mut slots = [SINK; N];
        for (slot, element) in slots.iter_mut().zip(elements) {
            *slot = match (destination, element) {
                (true, Operand::Sink) => SINK,
                (true, element) => self.destination(element, ty)?,
                (false, element) => self.source(element, ty)?,
            };
        }
        Ok(slots)
    }

    /// An address; 32-bit registers are allowed where `narrow` is.
    pub fn address(&mut self, operand: &Operand, narrow: bool) -> Decoded<Address> {
        let Operand::Address(base, offset) = operand else {
            return Err(format!("found {}; expected an address in brackets", operand.describe()));
        };
        match base {
            Base::Register(register) => {
                let is_narrow = register.ty.bytes() == 4;
                if register.ty.meaning() == Meaning::Float || !(register.ty.bytes() == 8 || narrow && is_narrow) {
                    return Err(format!("found a .{} register as address", register.ty.name()));
                }
                Ok(Address { base: register.slot, offset: *offset, narrow: is_narrow })
            }
            Base::Symbol(symbol) => Ok(Address { base: self.symbol(*symbol, 0)?, offset: *offset, narrow: false }),
            Base::Absolute => Ok(Address { base: self.names.constant(0)?, offset: *offset, narrow: false }),
        }
    }
}
