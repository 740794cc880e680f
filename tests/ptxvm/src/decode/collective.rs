//! Instructions that lanes or warps execute together: barriers, shuffles, votes, matches, reductions, `mma`.

use super::{Decoded, Decoder, Opcode, exactly};
use crate::instruction::{AtomicOp, Barrier, Match, MatrixMultiply, Op, Reduce, Shuffle, ShuffleMode, Vote, VoteMode};
use crate::matrix::Shape;
use crate::operand::Operand;
use crate::statistics::Class;
use crate::types::Type;

/// Shape and types of the `mma` instructions there are.
const PRODUCTS: [(&[&str], Shape); 7] = [
    (&["m8n8k4", "row", "col", "f64", "f64", "f64", "f64"], Shape::F64),
    (&["m16n8k4", "row", "col", "f32", "tf32", "tf32", "f32"], Shape::Tf32K4),
    (&["m16n8k8", "row", "col", "f32", "tf32", "tf32", "f32"], Shape::Tf32K8),
    (&["m16n8k8", "row", "col", "f32", "bf16", "bf16", "f32"], Shape::Bf16K8),
    (&["m16n8k16", "row", "col", "f32", "bf16", "bf16", "f32"], Shape::Bf16K16),
    (&["m16n8k8", "row", "col", "f32", "f16", "f16", "f32"], Shape::F16K8),
    (&["m16n8k16", "row", "col", "f32", "f16", "f16", "f32"], Shape::F16K16),
];

impl Decoder<'_> {
    pub(super) fn matrix_multiply(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        if !op.take_all(&["sync", "aligned"]) {
            return Err(op.unsupported());
        }
        let Some(&(_, shape)) = PRODUCTS.iter().find(|(modifiers, _)| op.take_all(modifiers)) else {
            return Err("`mma` of this shape and these types is not supported".into());
        };
        let [d, a, b, c] = exactly(op, operands)?;
        let (input, output) = match shape {
            Shape::F64 => (Type::F64, Type::F64),
            _ => (Type::B32, Type::F32),
        };
        let fragments = shape.fragments();
        let multiply = MatrixMultiply {
            shape,
            d: self.vector(d, fragments.c, output, true)?,
            a: self.vector(a, fragments.a, input, false)?,
            b: self.vector(b, fragments.b, input, false)?,
            c: self.vector(c, fragments.c, output, false)?,
        };
        Ok((Op::MatrixMultiply(Box::new(multiply)), Class::Matrix))
    }

    pub(super) fn shuffle(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        if !op.take("sync") {
            return Err("`shfl` without .sync is not supported".into());
        }
        let mode = match op.take_any(&["up", "down", "bfly", "idx"]) {
            Some("up") => ShuffleMode::Up,
            Some("down") => ShuffleMode::Down,
            Some("bfly") => ShuffleMode::Butterfly,
            Some(_) => ShuffleMode::Index,
            None => return Err(op.unsupported()),
        };
        if !op.take("b32") {
            return Err(op.unsupported());
        }
        let [d, a, b, c, members] = exactly(op, operands)?;
        let (d, p) = Self::with_predicate(d)?;
        let shuffle = Shuffle {
            mode,
            p,
            a: self.source(a, Type::B32)?,
            b: self.source(b, Type::B32)?,
            c: self.source(c, Type::B32)?,
            members: self.source(members, Type::B32)?,
            d: self.destination(d, Type::B32)?,
        };
        Ok((Op::Shuffle(Box::new(shuffle)), Class::Collective))
    }

    pub(super) fn vote(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        if !op.take("sync") {
            return Err("`vote` without .sync is not supported".into());
        }
        let mode = match op.take_any(&["all", "any", "uni", "ballot"]) {
            Some("all") => VoteMode::All,
            Some("any") => VoteMode::Any,
            Some("uni") => VoteMode::Uniform,
            Some(_) => VoteMode::Ballot,
            None => return Err(op.unsupported()),
        };
        if !op.take(if mode == VoteMode::Ballot { "b32" } else { "pred" }) {
            return Err(op.unsupported());
        }
        let [d, a, members] = exactly(op, operands)?;
        let vote = Vote {
            mode,
            a: Self::condition(a)?,
            members: self.source(members, Type::B32)?,
            d: if mode == VoteMode::Ballot { self.destination(d, Type::B32)? } else { Self::predicate(d)? },
        };
        Ok((Op::Vote(Box::new(vote)), Class::Collective))
    }

    pub(super) fn match_lanes(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        let Some(mode) = op.take_any(&["any", "all"]) else { return Err(op.unsupported()) };
        if !op.take("sync") {
            return Err(op.unsupported());
        }
        let ty = op.ty()?;
        if !matches!(ty, Type::B32 | Type::B64) {
            return Err(format!("`match` on .{} is not supported", ty.name()));
        }
        let [d, a, members] = exactly(op, operands)?;
        let (d, p) = Self::with_predicate(d)?;
        if p.is_some() && mode == "any" {
            return Err("`match.any` has no predicate result".into());
        }
        let matching = Match {
            all: mode == "all",
            p,
            a: self.source(a, ty)?,
            members: self.source(members, Type::B32)?,
            d: self.destination(d, Type::B32)?,
        };
        Ok((Op::Match(Box::new(matching)), Class::Collective))
    }

    pub(super) fn reduce(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        if !op.take("sync") {
            return Err(op.unsupported());
        }
        let name = op.peek();
        let Some(function) = AtomicOp::reduction(name) else { return Err(op.unsupported()) };
        op.take(name);
        let ty = op.ty()?;
        let arithmetic = matches!(function, AtomicOp::Add | AtomicOp::Min | AtomicOp::Max);
        if !(arithmetic && matches!(ty, Type::U32 | Type::S32) || !arithmetic && ty == Type::B32) {
            return Err(format!("`redux.sync.{name}` on .{} is not supported", ty.name()));
        }
        let [d, a, members] = exactly(op, operands)?;
        let reduce = Reduce {
            op: function,
            ty,
            a: self.source(a, ty)?,
            members: self.source(members, Type::B32)?,
            d: self.destination(d, ty)?,
        };
        Ok((Op::Reduce(Box::new(reduce)), Class::Collective))
    }

    pub(super) fn active_mask(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        if !op.take("b32") {
            return Err(op.unsupported());
        }
        let [d] = exactly(op, operands)?;
        Ok((Op::ActiveMask { d: self.destination(d, Type::B32)? }, Class::Collective))
    }

    pub(super) fn barrier(&mut self, op: &mut Opcode, operands: &[Operand]) -> Decoded<(Op, Class)> {
        if op.mnemonic == "bar" && op.take_all(&["warp", "sync"]) {
            let [members] = exactly(op, operands)?;
            return Ok((Op::WarpSync { members: self.source(members, Type::B32)? }, Class::Barrier));
        }
        op.take("cta");
        let arrive = match op.take_any(&["sync", "arrive"]) {
            Some(kind) => kind == "arrive",
            None => return Err(op.unsupported()),
        };
        if op.mnemonic == "barrier" {
            op.take("aligned");
        }
        let (id, threads) = match operands {
            [id] if !arrive => (id, None),
            [id, threads] => (id, Some(self.source(threads, Type::U32)?)),
            _ => return Err(format!("`{}` has {} operands", op.mnemonic, operands.len())),
        };
        Ok((Op::Barrier(Box::new(Barrier { id: self.source(id, Type::U32)?, threads, arrive })), Class::Barrier))
    }
}
