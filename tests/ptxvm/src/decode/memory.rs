//! Loads, stores, atomics, asynchronous copies and fences.

use super::{Decoded, Decoder, Opcode, exactly};
use crate::instruction::{Access, Atomic, AtomicOp, CopyAsync, LoadMatrix, LoadParameter, Op, SINK, Space};
use crate::operand::Operand;
use crate::statistics::Class;
use crate::types::Type;

const SCOPES: [&str; 4] = ["cta", "cluster", "gpu", "sys"];

/// Takes `.volatile`, or `.relaxed`, `.acquire` or `.release` with its scope.
fn strength(op: &mut Opcode, ordered: &str) -> Decoded<bool> {
    op.take("weak");
    if op.take("volatile") {
        return Ok(true);
    }
    if op.take_any(&["relaxed", ordered]).is_none() {
        return Ok(false);
    }
    op.take_any(&SCOPES).map(|_| true).ok_or_else(|| op.unsupported())
}

fn space(op: &mut Opcode) -> Decoded<Space> {
    match op.take_any(&["global", "shared", "shared::cta"]) {
        Some("global") => Ok(Space::Global),
        Some(_) => Ok(Space::Shared),
        None => Err(format!("`{}` without .global or .shared is not supported", op.mnemonic)),
    }
}

/// Cache hints, which change nothing here.
fn hints(op: &mut Opcode) {
    while op.peek().starts_with("L1::") || matches!(op.peek(), "L2::64B" | "L2::128B" | "L2::256B") {
        let hint = op.peek();
        op.take(hint);
    }
}

fn vector_and_type(op: &mut Opcode) -> Decoded<(usize, Type)> {
    let count = match op.take_any(&["v2", "v4"]) {
        Some("v2") => 2,
        Some(_) => 4,
        None => 1,
    };
    let ty = op.ty()?;
    let known = ty.is_integer() || matches!(ty, Type::B8 | Type::B16 | Type::B32 | Type::B64 | Type::F32 | Type::F64);
    if !known || count * ty.bytes() as usize > 16 {
        return Err(format!("`{}` of {count} values of .{} is not supported", op.mnemonic, ty.name()));
    }
    Ok((count, ty))
}

impl Decoder<'_> {
    /// Registers of a load or store, each at least as wide as `ty`, and their width.
    fn wide_registers(&mut self, operand: &Operand, count: usize, ty: Type, store: bool) -> Decoded<([u16; 4], u64)> {
        let elements = match operand {
            Operand::Vector(elements) => elements.as_slice(),
            single => std::slice::from_ref(single),
        };
        if elements.len() != count {
            return Err(format!("found {} registers; expected {count}", elements.len()));
        }
        let mut slots = [SINK; 4];
        let mut width = ty.mask();
        for (slot, element) in slots.iter_mut().zip(elements) {
            *slot = match element {
                Operand::Sink if !store => SINK,
                Operand::Register(register) => {
                    width = Self::check_wide(element, ty)?;
                    register.slot
                }
                other if store => self.source(other, ty)?,
                other => return Err(format!("found {} as destination; expected a register", other.describe())),
            };
        }
        Ok((slots, width))
    }

    pub(super) fn load(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let [d, a] = exactly(op, operands)?;
        if op.take("param") {
            let (count, ty) = vector_and_type(op)?;
            let (registers, register) = self.wide_registers(d, count, ty, false)?;
            let load = LoadParameter { ty, register, count: count as u8, registers, address: self.address(a, true)? };
            return Ok((Op::LoadParameter(Box::new(load)), Class::Parameter));
        }
        let strong = strength(op, "acquire")?;
        let space = space(op)?;
        let cache = op.take_any(&["ca", "cg", "cs", "lu", "cv"]);
        let constant = op.take("nc") || op.mnemonic == "ldu";
        hints(op);
        let (count, ty) = vector_and_type(op)?;
        if constant && (space == Space::Shared || strong) || cache.is_some() && strong {
            return Err("`ld` with these modifiers together is not supported".into());
        }
        let (registers, register) = self.wide_registers(d, count, ty, false)?;
        let address = self.address(a, space == Space::Shared)?;
        let access = Access { space, ty, register, count: count as u8, registers, address, strong, constant };
        Ok((Op::Load(Box::new(access)), if space == Space::Shared { Class::Shared } else { Class::Global }))
    }

    pub(super) fn store(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let [a, b] = exactly(op, operands)?;
        let strong = strength(op, "release")?;
        let space = space(op)?;
        op.take_any(&["wb", "cg", "cs", "wt"]);
        hints(op);
        let (count, ty) = vector_and_type(op)?;
        let (registers, register) = self.wide_registers(b, count, ty, true)?;
        let address = self.address(a, space == Space::Shared)?;
        let access = Access { space, ty, register, count: count as u8, registers, address, strong, constant: false };
        Ok((Op::Store(Box::new(access)), if space == Space::Shared { Class::Shared } else { Class::Global }))
    }

    pub(super) fn atomic(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        op.take_any(&["relaxed", "acquire", "release", "acq_rel"]);
        op.take_any(&SCOPES);
        let space = space(op)?;
        let name = op.peek();
        let function = match name {
            "exch" => AtomicOp::Exchange,
            "cas" => AtomicOp::CompareAndSwap,
            name => AtomicOp::reduction(name).ok_or_else(|| op.unsupported())?,
        };
        op.take(name);
        let ty = op.ty()?;
        let legal = match function {
            AtomicOp::Add => matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::F32 | Type::F64),
            AtomicOp::Min | AtomicOp::Max => matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64),
            _ => matches!(ty, Type::B32 | Type::B64),
        };
        let returns = op.mnemonic == "atom";
        let swaps = function == AtomicOp::CompareAndSwap;
        if !legal || !returns && (swaps || function == AtomicOp::Exchange) {
            return Err(format!("`{}.{name}` on .{} is not supported", op.mnemonic, ty.name()));
        }
        let expected = 2 + usize::from(returns) + usize::from(swaps);
        if operands.len() != expected {
            return Err(format!("`{}.{name}` has {} operands; expected {expected}", op.mnemonic, operands.len()));
        }
        let (d, rest) = if returns { (Some(&operands[0]), &operands[1..]) } else { (None, operands) };
        let b = self.source(&rest[1], ty)?;
        let atomic = Atomic {
            space,
            op: function,
            ty,
            address: self.address(&rest[0], space == Space::Shared)?,
            b,
            c: if swaps { self.source(&rest[2], ty)? } else { b },
            d: match d {
                Some(Operand::Sink) | None => SINK,
                Some(d) => self.destination(d, ty)?,
            },
        };
        Ok((Op::Atomic(Box::new(atomic)), Class::Atomic))
    }

    pub(super) fn copy_async(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        if !op.take("async") {
            return Err(op.unsupported());
        }
        if op.take("commit_group") {
            return exactly::<0>(op, operands).map(|_| (Op::CommitGroup, Class::Copy));
        }
        if op.take("wait_all") {
            return exactly::<0>(op, operands).map(|_| (Op::WaitAll, Class::Copy));
        }
        if op.take("wait_group") {
            return match exactly::<1>(op, operands)? {
                [Operand::Integer(pending @ 0..=0xFFFF_FFFF)] => Ok((Op::WaitGroup(*pending as u32), Class::Copy)),
                [other] => Err(format!("found {}; expected the number of groups that may stay pending", other.describe())),
            };
        }
        let Some(cache) = op.take_any(&["ca", "cg"]) else { return Err(op.unsupported()) };
        if op.take_any(&["shared", "shared::cta"]).is_none() || !op.take("global") {
            return Err(op.unsupported());
        }
        hints(op);
        let (to, from, size, source_size) = match operands {
            [to, from, Operand::Integer(size)] => (to, from, *size, None),
            [to, from, Operand::Integer(size), source_size] => (to, from, *size, Some(self.source(source_size, Type::U32)?)),
            _ => {
                return Err(format!(
                    "`cp.async` has {} operands; expected [to], [from], size and perhaps source size",
                    operands.len()
                ));
            }
        };
        if !(matches!(size, 4 | 8 | 16) && (cache == "ca" || size == 16)) {
            return Err(format!("`cp.async.{cache}` of {size} bytes; expected 4, 8 or 16 with .ca, 16 with .cg"));
        }
        let copy = CopyAsync { to: self.address(to, true)?, from: self.address(from, false)?, size: size as u8, source_size };
        Ok((Op::CopyAsync(Box::new(copy)), Class::Copy))
    }

    pub(super) fn load_matrix(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        if !op.take_all(&["sync", "aligned", "m8n8"]) {
            return Err(op.unsupported());
        }
        let count = match op.take_any(&["x1", "x2", "x4"]) {
            Some("x1") => 1,
            Some("x2") => 2,
            Some(_) => 4,
            None => return Err(op.unsupported()),
        };
        let transpose = op.take("trans");
        if op.take_any(&["shared", "shared::cta"]).is_none() || !op.take("b16") {
            return Err(op.unsupported());
        }
        let [d, a] = exactly(op, operands)?;
        let registers = self.vector::<4>(d, count, Type::B32, true)?;
        let load = LoadMatrix { count: count as u8, transpose, registers, address: self.address(a, true)? };
        Ok((Op::LoadMatrix(Box::new(load)), Class::Shared))
    }

    pub(super) fn prefetch(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        op.take("global");
        if op.take_any(&["L1", "L2"]).is_none() {
            return Err(op.unsupported());
        }
        let [a] = exactly(op, operands)?;
        self.address(a, false)?;
        Ok((Op::Nothing, Class::Global))
    }

    pub(super) fn fence(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        op.take_any(&["sc", "acq_rel"]);
        if op.take_any(&["cta", "cluster", "gl", "gpu", "sys"]).is_none() {
            return Err(op.unsupported());
        }
        exactly::<0>(op, operands).map(|_| (Op::Nothing, Class::Barrier))
    }
}
