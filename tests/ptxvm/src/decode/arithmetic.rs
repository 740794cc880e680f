//! Arithmetic on integers and floats, logic and bit fields.

use super::moves::rounding;
use super::{Decoded, Decoder, Opcode, exactly};
use crate::float::{self, Evaluate, Function};
use crate::instruction::{Combination, Op};
use crate::integer;
use crate::operand::Operand;
use crate::rounding::Mode;
use crate::statistics::Class;
use crate::types::Type;

/// The type of the product of two values, `.wide`.
fn wider(ty: Type) -> Type {
    match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::U32 => Type::U64,
        _ => Type::S64,
    }
}

/// The function a mnemonic names and how many arguments it takes.
fn function(mnemonic: &str, approximate: bool, nan: bool) -> Option<(Function, usize)> {
    Some(match (mnemonic, approximate) {
        ("add", false) => (Function::Add, 2),
        ("sub", false) => (Function::Sub, 2),
        ("mul", false) => (Function::Mul, 2),
        ("fma" | "mad", false) => (Function::Fma, 3),
        ("div", false) => (Function::Div, 2),
        ("div", true) => (Function::DivApprox, 2),
        ("rcp", false) => (Function::Reciprocal, 1),
        ("rcp", true) => (Function::ReciprocalApprox, 1),
        ("sqrt", false) => (Function::SquareRoot, 1),
        ("sqrt", true) => (Function::SquareRootApprox, 1),
        ("rsqrt", true) => (Function::InverseSquareRootApprox, 1),
        ("ex2", true) => (Function::Exp2Approx, 1),
        ("lg2", true) => (Function::Log2Approx, 1),
        ("tanh", true) => (Function::TanhApprox, 1),
        ("sin", true) => (Function::SinApprox, 1),
        ("cos", true) => (Function::CosApprox, 1),
        ("min", false) if nan => (Function::MinNan, 2),
        ("max", false) if nan => (Function::MaxNan, 2),
        ("min", false) => (Function::Min, 2),
        ("max", false) => (Function::Max, 2),
        ("neg", false) => (Function::Negate, 1),
        ("abs", false) => (Function::Absolute, 1),
        _ => return None,
    })
}

/// Whether PTX has the function for f64.
fn has_double(function: Function, flush: bool) -> bool {
    match function {
        Function::ReciprocalApprox | Function::InverseSquareRootApprox => flush || function != Function::ReciprocalApprox,
        Function::DivApprox | Function::SquareRootApprox | Function::Exp2Approx | Function::Log2Approx => false,
        Function::TanhApprox | Function::SinApprox | Function::CosApprox | Function::MinNan | Function::MaxNan => false,
        _ => !flush,
    }
}

fn class(function: Function) -> Class {
    match function {
        Function::Fma => Class::FusedMultiplyAdd,
        Function::Add | Function::Sub | Function::Mul | Function::Min | Function::Max | Function::Negate | Function::Absolute => {
            Class::Float
        }
        Function::MinNan | Function::MaxNan => Class::Float,
        _ => Class::Special,
    }
}

impl Decoder<'_> {
    pub(super) fn arithmetic(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        if op.mnemonic == "copysign" {
            let ty = op.ty()?;
            if !matches!(ty, Type::F32 | Type::F64) {
                return Err(format!("`copysign` on .{} is not supported", ty.name()));
            }
            let [d, a, b] = exactly(op, operands)?;
            let (a, b, d) = (self.source(a, ty)?, self.source(b, ty)?, self.destination(d, ty)?);
            return Ok((Op::Binary { f: float::copysign(ty == Type::F64), d, a, b }, Class::Float));
        }
        let part = op.take_any(&["lo", "hi", "wide"]);
        let approximate = op.take_any(&["approx", "full"]);
        let mode = op.take_any(&["rn", "rz", "rm", "rp"]);
        let flush = op.take("ftz");
        let nan = op.take("NaN");
        let saturate = op.take("sat");
        let ty = op.ty()?;
        if ty.is_integer() {
            if approximate.is_some() || mode.is_some() || flush || nan {
                return Err(format!("`{}` on .{} takes no such modifier", op.mnemonic, ty.name()));
            }
            return self.integer(op, operands, part, saturate, ty);
        }
        let double = ty == Type::F64;
        let found =
            function(op.mnemonic, approximate.is_some(), nan).filter(|&(f, _)| ty == Type::F32 || double && has_double(f, flush));
        let Some((function, arguments)) = found.filter(|_| part.is_none()) else {
            return Err(format!("`{}` on .{} with these modifiers is not supported", op.mnemonic, ty.name()));
        };
        let must_round = matches!(function, Function::Fma | Function::Div | Function::Reciprocal | Function::SquareRoot);
        let may_round = must_round || matches!(function, Function::Add | Function::Sub | Function::Mul);
        let may_saturate = matches!(function, Function::Add | Function::Sub | Function::Mul | Function::Fma) && !double;
        if must_round && mode.is_none() || !may_round && mode.is_some() || saturate && !may_saturate {
            return Err(format!("`{}` on .{} needs other modifiers", op.mnemonic, ty.name()));
        }
        if operands.len() != arguments + 1 {
            return Err(format!("`{}` has {} operands; expected {}", op.mnemonic, operands.len(), arguments + 1));
        }
        let mut sources = Vec::new();
        for operand in &operands[1..] {
            sources.push(self.source(operand, ty)?);
        }
        let d = self.destination(&operands[0], ty)?;
        let mode = mode.map_or(Mode::Nearest, |name| rounding(name).0);
        let plain = mode == Mode::Nearest && !flush && !saturate;
        let fast = match *sources.as_slice() {
            [a] if plain => float::fast_unary(function, double).map(|f| Op::Unary { f, d, a }),
            [a, b] if plain => float::fast_binary(function, double).map(|f| Op::Binary { f, d, a, b }),
            [a, b, c] if plain => Some(Op::Ternary { f: float::fast_fma(double), d, a, b, c }),
            _ => None,
        };
        let general = || Op::Evaluate(Box::new(Evaluate { function, double, mode, flush, saturate, d, sources }));
        Ok((fast.unwrap_or_else(general), class(function)))
    }

    fn integer(
        &mut self,
        op: &Opcode,
        operands: &[Operand],
        part: Option<&str>,
        saturate: bool,
        ty: Type,
    ) -> Decoded<(Op, Class)> {
        let suffix = part.map(|part| format!(".{part}")).unwrap_or_default();
        let name = format!("{}{suffix}{}", op.mnemonic, if saturate { ".sat" } else { "" });
        let result = if part == Some("wide") { wider(ty) } else { ty };
        let missing = || format!("`{name}` on .{} is not supported", ty.name());
        let decoded = match *operands {
            [ref d, ref a] => {
                let f = integer::unary_function(&name, ty).ok_or_else(missing)?;
                Op::Unary { f, a: self.source(a, ty)?, d: self.destination(d, ty)? }
            }
            [ref d, ref a, ref b] => {
                let f = integer::arithmetic(&name, ty).ok_or_else(missing)?;
                let (a, b, d) = (self.source(a, ty)?, self.source(b, ty)?, self.destination(d, result)?);
                if matches!(op.mnemonic, "div" | "rem") { Op::Divide { f, d, a, b } } else { Op::Binary { f, d, a, b } }
            }
            [ref d, ref a, ref b, ref c] => {
                let f = integer::multiply_add(&name, ty).ok_or_else(missing)?;
                let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, result)?);
                Op::Ternary { f, d: self.destination(d, result)?, a, b, c }
            }
            _ => return Err(format!("`{name}` has {} operands", operands.len())),
        };
        Ok((decoded, Class::Integer))
    }

    pub(super) fn bits(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let name = op.mnemonic;
        if name == "shf" {
            return self.funnel_shift(op, operands);
        }
        let ty = op.ty()?;
        if ty == Type::Pred {
            return self.predicate_logic(op, operands);
        }
        let bits_only = matches!(name, "and" | "or" | "xor" | "not" | "shl" | "lop3" | "prmt" | "bfi" | "popc" | "clz" | "brev");
        let is_bits = matches!(ty, Type::B16 | Type::B32 | Type::B64);
        let narrow_only = matches!(name, "lop3" | "prmt");
        let no_halves = matches!(name, "bfi" | "popc" | "clz" | "brev");
        let missing = || format!("`{name}` on .{} is not supported", ty.name());
        if bits_only && !is_bits || narrow_only && ty != Type::B32 || no_halves && ty == Type::B16 {
            return Err(missing());
        }
        let decoded = match name {
            "not" | "popc" | "clz" | "brev" => {
                let [d, a] = exactly(op, operands)?;
                let result = if matches!(name, "popc" | "clz") { Type::U32 } else { ty };
                let f = integer::unary_function(name, ty).ok_or_else(missing)?;
                Op::Unary { f, a: self.source(a, ty)?, d: self.destination(d, result)? }
            }
            "and" | "or" | "xor" => {
                let [d, a, b] = exactly(op, operands)?;
                let f = integer::logic(name, ty).ok_or_else(missing)?;
                Op::Binary { f, a: self.source(a, ty)?, b: self.source(b, ty)?, d: self.destination(d, ty)? }
            }
            "shl" | "shr" => {
                let [d, a, b] = exactly(op, operands)?;
                let f = integer::shift(name, ty).filter(|_| is_bits || ty.is_integer()).ok_or_else(missing)?;
                Op::Binary { f, a: self.source(a, ty)?, b: self.source(b, Type::U32)?, d: self.destination(d, ty)? }
            }
            "bfe" => {
                let [d, a, b, c] = exactly(op, operands)?;
                let f = integer::bit_field_extract(ty).ok_or_else(missing)?;
                let (b, c) = (self.source(b, Type::U32)?, self.source(c, Type::U32)?);
                Op::Ternary { f, a: self.source(a, ty)?, b, c, d: self.destination(d, ty)? }
            }
            "bfi" => {
                let [d, a, b, position, length] = exactly(op, operands)?;
                let (position, length) = (self.source(position, Type::U32)?, self.source(length, Type::U32)?);
                let (a, b, d) = (self.source(a, ty)?, self.source(b, ty)?, self.destination(d, ty)?);
                Op::Insert { bits: (8 * ty.bytes()) as u8, d, a, b, position, length }
            }
            "lop3" => {
                let [d, a, b, c, table] = exactly(op, operands)?;
                let table = match table {
                    Operand::Integer(table @ 0..=255) => *table as u8,
                    other => return Err(format!("found {} as table of `lop3`; expected 0 to 255", other.describe())),
                };
                let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, ty)?);
                Op::Lop3 { table, d: self.destination(d, ty)?, a, b, c }
            }
            _ => {
                let [d, a, b, c] = exactly(op, operands)?;
                let (a, b, c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, ty)?);
                Op::Ternary { f: integer::permute(), d: self.destination(d, ty)?, a, b, c }
            }
        };
        Ok((decoded, Class::Integer))
    }

    fn funnel_shift(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let Some(direction) = op.take_any(&["l", "r"]) else { return Err(op.unsupported()) };
        let Some(overflow) = op.take_any(&["wrap", "clamp"]) else { return Err(op.unsupported()) };
        if !op.take("b32") {
            return Err(op.unsupported());
        }
        let [d, a, b, c] = exactly(op, operands)?;
        let (a, b, c) = (self.source(a, Type::B32)?, self.source(b, Type::B32)?, self.source(c, Type::U32)?);
        let f = integer::funnel(direction == "l", overflow == "wrap");
        Ok((Op::Ternary { f, d: self.destination(d, Type::B32)?, a, b, c }, Class::Integer))
    }

    fn predicate_logic(&mut self, op: &Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let (f, d, a, b): (Combination, _, _, _) = match (op.mnemonic, operands) {
            ("not", [d, a]) => (|a, _| !a, d, a, a),
            ("and", [d, a, b]) => (|a, b| a & b, d, a, b),
            ("or", [d, a, b]) => (|a, b| a | b, d, a, b),
            ("xor", [d, a, b]) => (|a, b| a ^ b, d, a, b),
            _ => return Err(format!("`{}` on predicates with {} operands is not supported", op.mnemonic, operands.len())),
        };
        let op = Op::Predicate { f, d: Self::predicate(d)?, a: Self::condition(a)?, b: Self::condition(b)? };
        Ok((op, Class::Integer))
    }
}
