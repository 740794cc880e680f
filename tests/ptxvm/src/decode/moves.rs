//! Moves, address conversions, `cvt`, selections and comparisons.

use super::{Decoded, Decoder, Opcode, exactly};
use crate::convert::Convert;
use crate::instruction::{Combination, Compare, Op, SINK, Special};
use crate::lanes::{binary, unary};
use crate::operand::Operand;
use crate::rounding::Mode;
use crate::shared::WINDOW;
use crate::statistics::Class;
use crate::types::{Meaning, Type};
use crate::{float, integer};

/// A rounding modifier and whether it is one to integral values.
pub(super) fn rounding(name: &str) -> (Mode, bool) {
    let mode = match &name[..name.len().min(2)] {
        _ if name == "rna" => Mode::NearestAway,
        "rz" => Mode::Zero,
        "rm" => Mode::Down,
        "rp" => Mode::Up,
        _ => Mode::Nearest,
    };
    (mode, name.ends_with('i'))
}

/// The type of the parts of a packed value.
fn part(ty: Type, count: usize) -> Decoded<Type> {
    match (ty.bytes() as usize).checked_div(count) {
        Some(4) => Ok(Type::B32),
        Some(2) => Ok(Type::B16),
        _ => Err(format!(".{} cannot be cut into {count} registers", ty.name())),
    }
}

impl Decoder<'_> {
    pub(super) fn mov(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let ty = op.ty()?;
        let [d, a] = exactly(op, operands)?;
        if ty == Type::Pred {
            let (d, a) = (Self::predicate(d)?, Self::condition(a)?);
            return Ok((Op::Predicate { f: |a, _| a, d, a, b: a }, Class::Integer));
        }
        let decoded = match (d, a) {
            (_, Operand::Vector(parts)) => {
                let count = parts.len();
                let element = part(ty, count)?;
                let slots = self.vector::<4>(a, count, element, false)?;
                Op::Pack { d: self.destination(d, ty)?, parts: slots, count: count as u8, bits: (8 * element.bytes()) as u8 }
            }
            (Operand::Vector(parts), _) => {
                let count = parts.len();
                let element = part(ty, count)?;
                let slots = self.vector::<4>(d, count, element, true)?;
                Op::Unpack { parts: slots, a: self.source(a, ty)?, count: count as u8, bits: (8 * element.bytes()) as u8 }
            }
            (_, Operand::Special(Special::Clock)) if ty.bytes() == 4 => {
                Op::Clock { d: self.destination(d, ty)?, mask: ty.mask() }
            }
            (_, Operand::Special(Special::Clock64)) if ty.bytes() == 8 => {
                Op::Clock { d: self.destination(d, ty)?, mask: ty.mask() }
            }
            _ => Op::Unary { f: unary!(u64, |a| a), a: self.source(a, ty)?, d: self.destination(d, ty)? },
        };
        Ok((decoded, Class::Integer))
    }

    /// `cvta`: only shared addresses differ from generic ones.
    pub(super) fn convert_address(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let to = op.take("to");
        let Some(space) = op.take_any(&["global", "shared", "shared::cta", "param"]) else { return Err(op.unsupported()) };
        if !op.take("u64") {
            return Err(op.unsupported());
        }
        let [d, a] = exactly(op, operands)?;
        let (a, d) = (self.source(a, Type::U64)?, self.destination(d, Type::U64)?);
        if !space.starts_with("shared") {
            return Ok((Op::Unary { f: unary!(u64, |a| a), d, a }, Class::Integer));
        }
        let b = self.names.constant(WINDOW)?;
        let f = if to { binary!(u64, |a, b| a.wrapping_sub(b)) } else { binary!(u64, |a, b| a.wrapping_add(b)) };
        Ok((Op::Binary { f, d, a, b }, Class::Integer))
    }

    /// Checks a register of `cvt`, `ld` or `st`, which may be wider than an integer or bit type, and gives its width.
    pub(super) fn check_wide(operand: &Operand, ty: Type) -> Decoded<u64> {
        let Operand::Register(register) = operand else { return Ok(ty.mask()) };
        let (found, wanted) = (register.ty.meaning(), ty.meaning());
        let exact = ty.is_float() || found == Meaning::Float;
        let agree = found == wanted || found == Meaning::Bits || wanted == Meaning::Bits || !exact;
        let fits = register.ty.bytes() == ty.bytes() || !exact && register.ty.bytes() > ty.bytes();
        match fits && agree {
            true => Ok(register.ty.mask()),
            false => Err(format!("found a .{} register where .{} is needed", register.ty.name(), ty.name())),
        }
    }

    pub(super) fn convert(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let named = op.take_any(&["rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi"]);
        let (relu_first, flush) = (op.take("relu"), op.take("ftz"));
        let saturate = op.take("sat");
        let to = op.ty()?;
        let from = op.ty()?;
        let packed = matches!(to, Type::F16x2 | Type::Bf16x2);
        let (mode, is_integral) = named.map_or((Mode::Nearest, false), rounding);
        let narrows = to.is_float() && (from.is_integer() || from.bytes() > to.bytes() || to == Type::Tf32) || packed;
        let needs_integral = to.is_integer() && from.is_float();
        let legal = match named {
            None => !narrows && !needs_integral,
            Some(_) if is_integral => needs_integral || to == from,
            Some("rna") => to == Type::Tf32,
            Some(_) => narrows,
        };
        let known = |ty: Type| ty.is_integer() || ty.is_float();
        if !legal || !(known(to) || packed) || !known(from) || from == Type::Tf32 || to == Type::Tf32 && from != Type::F32 {
            let modifier = named.map_or("no rounding modifier".into(), |name| format!("`.{name}`"));
            return Err(format!("`cvt` from .{} to .{} with {modifier} is not supported", from.name(), to.name()));
        }
        let (d, a, b) = match operands {
            [d, a, b] if packed && from == Type::F32 => (d, a, Some(b)),
            [d, a] if !packed => (d, a, None),
            _ => return Err(format!("`cvt` to .{} has {} operands", to.name(), operands.len())),
        };
        let register = Self::check_wide(d, to)?;
        Self::check_wide(a, from)?;
        let slot = |decoder: &mut Self, operand: &Operand| match operand {
            Operand::Register(register) => Ok(register.slot),
            other => decoder.source(other, from),
        };
        let convert = Convert {
            from,
            to,
            mode,
            integral: is_integral.then_some(mode),
            saturate,
            flush,
            relu: relu_first,
            register,
            a: slot(self, a)?,
            b: match b {
                Some(b) => Some(self.source(b, from)?),
                None => None,
            },
            d: match d {
                Operand::Register(register) => register.slot,
                other => return Err(format!("found {} as destination; expected a register", other.describe())),
            },
        };
        // A rounding to integral values within one format is exact in it.
        let convert = if is_integral { Convert { mode: Mode::Nearest, ..convert } } else { convert };
        Ok((Op::Convert(Box::new(convert)), Class::Convert))
    }

    pub(super) fn select(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let ty = op.ty()?;
        if op.mnemonic == "selp" {
            let [d, a, b, p] = exactly(op, operands)?;
            let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
            return Ok((Op::Select { d: self.destination(d, ty)?, a, b, p: Self::condition(p)? }, Class::Integer));
        }
        let by = op.ty()?;
        if !matches!(by, Type::S32 | Type::F32) {
            return Err(format!("`slct` by .{} is not supported", by.name()));
        }
        let [d, a, b, c] = exactly(op, operands)?;
        let f = integer::select_by_sign(by == Type::F32);
        let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, by)?);
        Ok((Op::Ternary { f, d: self.destination(d, ty)?, a, b, c }, Class::Integer))
    }

    pub(super) fn compare(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let comparison = op.peek();
        op.take(comparison);
        let combine: Option<Combination> = match op.take_any(&["and", "or", "xor"]) {
            Some("and") => Some(|a, b| a & b),
            Some("or") => Some(|a, b| a | b),
            Some(_) => Some(|a, b| a ^ b),
            None => None,
        };
        let ty = op.ty()?;
        let f = match ty {
            Type::F32 | Type::F64 => float::compare(comparison, ty == Type::F64),
            _ => integer::compare(comparison, ty),
        };
        let Some(f) = f else { return Err(format!("`setp.{comparison}` on .{} is not supported", ty.name())) };
        let (p, a, b, with) = match (operands, combine) {
            ([p, a, b], None) => (p, a, b, None),
            ([p, a, b, c], Some(combine)) => (p, a, b, Some((combine, Self::condition(c)?))),
            _ => return Err(format!("`setp` has {} operands", operands.len())),
        };
        let (p, q) = match p {
            Operand::Pair(pair) => (Self::predicate(&pair.0)?, Self::predicate(&pair.1)?),
            p => (Self::predicate(p)?, SINK),
        };
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        Ok((Op::Compare(Box::new(Compare { f, p, q, a, b, with })), Class::Integer))
    }

    pub(super) fn test_float(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let property = op.peek();
        op.take(property);
        let ty = op.ty()?;
        let f = match ty {
            Type::F32 | Type::F64 => float::property(property, ty == Type::F64),
            _ => None,
        };
        let Some(f) = f else { return Err(format!("`testp.{property}` on .{} is not supported", ty.name())) };
        let [p, a] = exactly(op, operands)?;
        let a = self.source(a, ty)?;
        Ok((Op::Compare(Box::new(Compare { f, p: Self::predicate(p)?, q: SINK, a, b: a, with: None })), Class::Float))
    }
}
