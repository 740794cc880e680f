//! `cvt`: conversions among integers and floats, lane by lane.

use crate::instruction::Slot;
use crate::rounding::{self, Format, Mode};
use crate::types::Type;

/// A `cvt` instruction.
#[derive(Clone, Debug)]
pub(crate) struct Convert {
    pub from: Type,
    pub to: Type,
    /// Rounding of a float result.
    pub mode: Mode,
    /// Rounding to an integral value first (`.rni`, `.rzi`, `.rmi`, `.rpi`).
    pub integral: Option<Mode>,
    pub saturate: bool,
    pub flush: bool,
    pub relu: bool,
    /// The bits of the destination register, to which narrower integers are extended.
    pub register: u64,
    pub d: Slot,
    /// The source; the upper half where `b` is given.
    pub a: Slot,
    /// The lower half of a packed result.
    pub b: Option<Slot>,
}

/// Rounds to an integral value.
fn integral(x: f64, mode: Mode) -> f64 {
    match mode {
        Mode::Nearest => x.round_ties_even(),
        Mode::NearestAway => x.round(),
        Mode::Zero => x.trunc(),
        Mode::Down => x.floor(),
        Mode::Up => x.ceil(),
    }
}

/// The value of a float of type `ty`.
fn float_value(bits: u64, ty: Type) -> f64 {
    match ty {
        Type::F16 => half::f16::from_bits(bits as u16).to_f64(),
        Type::Bf16 => half::bf16::from_bits(bits as u16).to_f64(),
        Type::F64 => f64::from_bits(bits),
        _ => f32::from_bits(bits as u32).into(),
    }
}

fn integer_value(bits: u64, ty: Type) -> i128 {
    match ty {
        Type::S8 => (bits as i8).into(),
        Type::S16 => (bits as i16).into(),
        Type::S32 => (bits as i32).into(),
        Type::S64 => (bits as i64).into(),
        _ => (bits & ty.mask()).into(),
    }
}

/// The smallest and largest integer of a type.
fn limits(ty: Type) -> (i128, i128) {
    let bits = 8 * ty.bytes();
    if ty.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// Format and number of bits below it in the register of a float type.
fn format(ty: Type) -> (Format, u32) {
    match ty {
        Type::F16 | Type::F16x2 => (rounding::F16, 0),
        Type::Bf16 | Type::Bf16x2 => (rounding::BF16, 0),
        Type::Tf32 => (rounding::TF32, 13),
        Type::F64 => (rounding::F64, 0),
        _ => (rounding::F32, 0),
    }
}

fn canonical_nan(ty: Type) -> u64 {
    match ty {
        Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 => 0x7FFF,
        Type::F64 => 0x7FFF_FFFF_FFFF_FFFF,
        _ => 0x7FFF_FFFF,
    }
}

/// The bf16 nearest to an f32, ties to even.
fn nearest_bf16(bits: u32) -> u16 {
    if bits & 0x7FFF_FFFF > 0x7F80_0000 {
        return 0x7FFF;
    }
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

impl Convert {
    fn to_float(&self, x: f64) -> u64 {
        let (format, below) = format(self.to);
        if x.is_nan() {
            return if self.saturate { 0 } else { canonical_nan(self.to) };
        }
        let x = self.integral.map_or(x, |mode| integral(x, mode));
        let x = if self.saturate { x.clamp(0.0, 1.0) } else { x };
        let x = if self.relu && x <= 0.0 { 0.0 } else { x };
        let bits = rounding::round_f64(x, self.mode, format) << below;
        let subnormal = self.to == Type::F32 && bits & 0x7F80_0000 == 0;
        if self.flush && subnormal { bits & 0x8000_0000 } else { bits }
    }

    fn to_integer(&self, x: f64) -> i128 {
        let (low, high) = limits(self.to);
        if x.is_nan() {
            let wide = self.from == Type::F64 || self.to.bytes() == 8;
            return match (wide, self.to.is_signed()) {
                (false, _) => 0,
                (true, true) => low,
                (true, false) => 1 << (8 * self.to.bytes() - 1),
            };
        }
        // `as` saturates, and every limit is far inside i128.
        (integral(x, self.integral.unwrap_or(Mode::Zero)) as i128).clamp(low, high)
    }

    fn one(&self, bits: u64) -> u64 {
        let plain = self.mode == Mode::Nearest && !(self.saturate || self.relu || self.flush);
        if plain && self.from == Type::F32 && matches!(self.to, Type::Bf16 | Type::Bf16x2) {
            return nearest_bf16(bits as u32).into();
        }
        if !self.from.is_float() {
            let x = integer_value(bits, self.from);
            if self.to.is_float() {
                let (format, below) = format(self.to);
                return rounding::round_integer(x, self.mode, format) << below;
            }
            let (low, high) = limits(self.to);
            let x = if self.saturate { x.clamp(low, high) as u64 } else { x as u64 };
            return integer_value(x, self.to) as u64 & self.register;
        }
        let x = float_value(bits, self.from);
        let subnormal = self.from == Type::F32 && x != 0.0 && x.abs() < f64::from(f32::MIN_POSITIVE);
        let x = if self.flush && subnormal { 0f64.copysign(x) } else { x };
        if self.to.is_float() || matches!(self.to, Type::F16x2 | Type::Bf16x2) {
            return self.to_float(x);
        }
        self.to_integer(x) as u64 & self.register
    }

    /// The result for a lane, from its source and, for packed results, the source of the lower half.
    pub fn apply(&self, a: u64, b: u64) -> u64 {
        match self.b {
            Some(_) => self.one(a) << 16 | self.one(b),
            None => self.one(a),
        }
    }
}
