//! Executes one instruction for the active lanes of a warp that pass its guard: arithmetic here, the rest by the module
//! that knows it.

use crate::block::Block;
use crate::fault::{Checked, FaultKind, Trouble};
use crate::instruction::{Compare, Instruction, LoadParameter, Op, Slot};
use crate::integer;
use crate::lanes::{Lanes, lanes_of};
use crate::matrix;
use crate::shared::{gather, ones};
use crate::types::Type;
use crate::warp::{Gathered, Warp};

impl Warp {
    pub fn execute(&mut self, block: &mut Block, instruction: &Instruction, mask: u32) -> Checked<Gathered> {
        let kernel = block.kernel;
        match &instruction.op {
            Op::Unary { f, d, a } => {
                let result = f(self.source(*a, mask, kernel)?);
                self.write(*d, mask, &result);
            }
            Op::Binary { f, d, a, b } => {
                let result = f(self.source(*a, mask, kernel)?, self.source(*b, mask, kernel)?);
                self.write(*d, mask, &result);
            }
            Op::Ternary { f, d, a, b, c } => {
                let (a, b, c) = (self.source(*a, mask, kernel)?, self.source(*b, mask, kernel)?, self.source(*c, mask, kernel)?);
                let result = f(a, b, c);
                self.write(*d, mask, &result);
            }
            Op::Divide { f, d, a, b } => {
                let (a, b) = (self.source(*a, mask, kernel)?, self.source(*b, mask, kernel)?);
                if let Some(lane) = lanes_of(mask).find(|&lane| b[lane] == 0) {
                    let message = "an integer is divided by zero, for which PTX leaves the result open".into();
                    return Err(Box::new(Trouble { lane: Some(lane as u32), kind: FaultKind::IllegalOperand, message }));
                }
                let result = f(a, b);
                self.write(*d, mask, &result);
            }
            Op::Lop3 { table, d, a, b, c } => {
                let (a, b, c) = (self.source(*a, mask, kernel)?, self.source(*b, mask, kernel)?, self.source(*c, mask, kernel)?);
                let result = std::array::from_fn(|i| integer::lop3(a[i], b[i], c[i], *table));
                self.write(*d, mask, &result);
            }
            Op::Insert { bits, d, a, b, position, length } => {
                let (a, b) = (self.source(*a, mask, kernel)?, self.source(*b, mask, kernel)?);
                let (position, length) = (self.source(*position, mask, kernel)?, self.source(*length, mask, kernel)?);
                let bits = u64::from(*bits);
                let result = std::array::from_fn(|i| integer::bit_field_insert(a[i], b[i], position[i], length[i], bits));
                self.write(*d, mask, &result);
            }
            Op::Evaluate(evaluate) => {
                let mut arguments = [&[0; 32]; 3];
                for (argument, source) in arguments.iter_mut().zip(&evaluate.sources) {
                    *argument = self.source(*source, mask, kernel)?;
                }
                let result = std::array::from_fn(|i| evaluate.apply(arguments.map(|argument| argument[i])));
                self.write(evaluate.d, mask, &result);
            }
            Op::Convert(convert) => {
                let a = self.source(convert.a, mask, kernel)?;
                let b = match convert.b {
                    Some(b) => self.source(b, mask, kernel)?,
                    None => a,
                };
                let result = std::array::from_fn(|i| convert.apply(a[i], b[i]));
                self.write(convert.d, mask, &result);
            }
            Op::Clock { d, mask: bits } => {
                let now = block.statistics.instructions & bits;
                self.write(*d, mask, &[now; 32]);
            }
            Op::Pack { d, parts, count, bits } => {
                let mut result: Lanes = [0; 32];
                for (k, part) in parts[..*count as usize].iter().enumerate() {
                    let part = self.source(*part, mask, kernel)?;
                    for (whole, part) in result.iter_mut().zip(part) {
                        *whole |= part << (k * *bits as usize);
                    }
                }
                self.write(*d, mask, &result);
            }
            Op::Unpack { parts, a, count, bits } => {
                let whole = *self.source(*a, mask, kernel)?;
                for (k, part) in parts[..*count as usize].iter().enumerate() {
                    let values = whole.map(|whole| whole >> (k * *bits as usize) & ones(*bits as usize));
                    self.write(*part, mask, &values);
                }
            }
            Op::Compare(compare) => self.compare(compare, mask, block)?,
            Op::Predicate { f, d, a, b } => {
                let result = f(self.condition(*a, mask, kernel)?, self.condition(*b, mask, kernel)?);
                self.write_predicate(*d, mask, result);
            }
            Op::Select { d, a, b, p } => {
                let chosen = self.condition(*p, mask, kernel)?;
                let (a, b) = (self.source(*a, mask, kernel)?, self.source(*b, mask, kernel)?);
                let result = std::array::from_fn(|i| if chosen >> i & 1 == 1 { a[i] } else { b[i] });
                self.write(*d, mask, &result);
            }
            Op::LoadParameter(load) => self.load_parameter(load, mask, block)?,
            Op::Load(access) => self.load(access, mask, block)?,
            Op::Store(access) => self.store(access, mask, block)?,
            Op::Atomic(atomic) => self.atomic(atomic, mask, block)?,
            Op::CopyAsync(copy) => self.copy_async(copy, mask, block)?,
            Op::CommitGroup => self.copies.commit(mask),
            Op::WaitGroup(pending) => self.wait_group(*pending, mask, block)?,
            Op::WaitAll => {
                self.copies.commit(mask);
                self.wait_group(0, mask, block)?;
            }
            Op::LoadMatrix(load) => return self.load_matrix(load, mask, block),
            Op::MatrixMultiply(multiply) => {
                if let Gathered::Parked = self.whole_warp(mask, true, kernel)? {
                    return Ok(Gathered::Parked);
                }
                let mut c = [[0; 32]; 4];
                let (mut a, mut b) = (c, [[0; 32]; 2]);
                let fragments = multiply.shape.fragments();
                self.fragment(&mut a[..fragments.a], &multiply.a, mask, block)?;
                self.fragment(&mut b[..fragments.b], &multiply.b, mask, block)?;
                self.fragment(&mut c[..fragments.c], &multiply.c, mask, block)?;
                let d = matrix::multiply(multiply.shape, &a, &b, &c, block.options.mma);
                for (slot, values) in multiply.d.iter().zip(&d).take(fragments.c) {
                    self.write(*slot, mask, values);
                }
                block.statistics.matrix_products += 1;
            }
            Op::Shuffle(shuffle) => return self.shuffle(shuffle, mask, block),
            Op::Vote(vote) => return self.vote(vote, mask, block),
            Op::Match(matching) => return self.match_lanes(matching, mask, block),
            Op::Reduce(reduce) => return self.reduce(reduce, mask, block),
            Op::ActiveMask { d } => self.write(*d, mask, &[mask.into(); 32]),
            Op::Barrier(barrier) => return self.barrier(barrier, mask, block),
            Op::WarpSync { members } => return self.synchronise(*members, mask, block),
            Op::Nothing => {}
            Op::Trap => {
                let message = "the kernel executes trap".into();
                return Err(Box::new(Trouble { lane: Some(mask.trailing_zeros()), kind: FaultKind::Trap, message }));
            }
            Op::Branch { .. } | Op::Exit => {
                let message = "a branch reached the arithmetic unit; expected the warp to take it".into();
                return Err(Box::new(Trouble { lane: None, kind: FaultKind::Unsupported, message }));
            }
        }
        Ok(Gathered::Ready)
    }

    fn fragment(&self, lanes: &mut [Lanes], slots: &[Slot], mask: u32, block: &Block) -> Checked<()> {
        for (lanes, slot) in lanes.iter_mut().zip(slots) {
            *lanes = *self.source(*slot, mask, block.kernel)?;
        }
        Ok(())
    }

    fn compare(&mut self, compare: &Compare, mask: u32, block: &Block) -> Checked<()> {
        let kernel = block.kernel;
        let result = (compare.f)(self.source(compare.a, mask, kernel)?, self.source(compare.b, mask, kernel)?);
        let (p, q) = match compare.with {
            Some((combine, condition)) => {
                let other = self.condition(condition, mask, kernel)?;
                (combine(result, other), combine(!result, other))
            }
            None => (result, !result),
        };
        self.write_predicate(compare.p, mask, p);
        self.write_predicate(compare.q, mask, q);
        Ok(())
    }

    fn load_parameter(&mut self, load: &LoadParameter, mask: u32, block: &Block) -> Checked<()> {
        let size = load.ty.bytes() as usize;
        let addresses = self.addresses(&load.address, mask, block)?;
        let params = block.launch.params;
        for lane in lanes_of(mask) {
            let whole = size * usize::from(load.count);
            let address = addresses[lane];
            let fault = |kind, found: &str| {
                let message = format!("{whole} bytes of the parameters at {address}, {found}");
                Err(Box::new(Trouble { lane: Some(lane as u32), kind, message }))
            };
            if address >= params.len() as u64 || params.len() as u64 - address < whole as u64 {
                return fault(FaultKind::OutOfBounds, &format!("past their {} bytes", params.len()));
            }
            if !address.is_multiple_of(whole as u64) {
                return fault(FaultKind::Misaligned, "not a multiple of the size");
            }
            for (k, slot) in load.registers[..load.count as usize].iter().enumerate() {
                let value = gather(params, address as usize + k * size, size) as u64;
                self.write_lane(*slot, lane, extend(value, load.ty) & load.register);
            }
        }
        Ok(())
    }
}

/// Extends the sign of a narrower signed value to 64 bits.
#[inline(always)]
pub(crate) fn extend(value: u64, ty: Type) -> u64 {
    match ty {
        Type::S8 => value as i8 as u64,
        Type::S16 => value as i16 as u64,
        Type::S32 => value as i32 as u64,
        _ => value,
    }
}
