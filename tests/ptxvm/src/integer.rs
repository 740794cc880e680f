//! Integer arithmetic, logic and bit fields over whole warps, as functions chosen by mnemonic and type. Shifts clamp
//! their amount as PTX does; results that PTX leaves open (division by zero) are all ones.

use crate::lanes::{Binary, Comparison, Ternary, Unary, binary, comparison, ternary, unary};
use crate::types::Type;

/// Expands an expression for every integer type of 16 bits or more.
macro_rules! integers {
    ($ty:expr, $t:ident => $e:expr) => {
        match $ty {
            Type::U16 => {
                type $t = u16;
                Some($e)
            }
            Type::U32 => {
                type $t = u32;
                Some($e)
            }
            Type::U64 => {
                type $t = u64;
                Some($e)
            }
            Type::S16 => {
                type $t = i16;
                Some($e)
            }
            Type::S32 => {
                type $t = i32;
                Some($e)
            }
            Type::S64 => {
                type $t = i64;
                Some($e)
            }
            _ => None,
        }
    };
}

/// Expands an expression for every width of bits.
macro_rules! widths {
    ($ty:expr, $t:ident => $e:expr) => {
        match $ty.bytes() {
            2 => {
                type $t = u16;
                Some($e)
            }
            4 => {
                type $t = u32;
                Some($e)
            }
            8 => {
                type $t = u64;
                Some($e)
            }
            _ => None,
        }
    };
}

/// `add`, `sub`, `min`, `max`, `div`, `rem` and the low half of `mul`.
pub(crate) fn arithmetic(name: &str, ty: Type) -> Option<Binary> {
    match name {
        "add" => integers!(ty, T => binary!(T, |a, b| a.wrapping_add(b))),
        "sub" => integers!(ty, T => binary!(T, |a, b| a.wrapping_sub(b))),
        "mul.lo" => integers!(ty, T => binary!(T, |a, b| a.wrapping_mul(b))),
        "min" => integers!(ty, T => binary!(T, |a, b| a.min(b))),
        "max" => integers!(ty, T => binary!(T, |a, b| a.max(b))),
        "div" => integers!(ty, T => binary!(T, |a, b| if b == 0 { !0 } else { a.wrapping_div(b) })),
        "rem" => integers!(ty, T => binary!(T, |a, b| if b == 0 { !0 } else { a.wrapping_rem(b) })),
        "add.sat" if ty == Type::S32 => Some(binary!(i32, |a, b| a.saturating_add(b))),
        "sub.sat" if ty == Type::S32 => Some(binary!(i32, |a, b| a.saturating_sub(b))),
        "mul.hi" => match ty {
            Type::U16 => Some(binary!(u16, |a, b| ((u32::from(a) * u32::from(b)) >> 16) as u16)),
            Type::S16 => Some(binary!(i16, |a, b| ((i32::from(a) * i32::from(b)) >> 16) as i16)),
            Type::U32 => Some(binary!(u32, |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32)),
            Type::S32 => Some(binary!(i32, |a, b| ((i64::from(a) * i64::from(b)) >> 32) as i32)),
            Type::U64 => Some(binary!(u64, |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64)),
            Type::S64 => Some(binary!(i64, |a, b| ((i128::from(a) * i128::from(b)) >> 64) as i64)),
            _ => None,
        },
        "mul.wide" => match ty {
            Type::U16 => Some(binary!(u16, |a, b| u32::from(a) * u32::from(b))),
            Type::S16 => Some(binary!(i16, |a, b| i32::from(a) * i32::from(b))),
            Type::U32 => Some(binary!(u32, |a, b| u64::from(a) * u64::from(b))),
            Type::S32 => Some(binary!(i32, |a, b| i64::from(a) * i64::from(b))),
            _ => None,
        },
        _ => None,
    }
}

/// `mad.lo`, `mad.hi` and `mad.wide`.
pub(crate) fn multiply_add(name: &str, ty: Type) -> Option<Ternary> {
    match name {
        "mad.lo" => integers!(ty, T => ternary!(T, |a, b, c| a.wrapping_mul(b).wrapping_add(c))),
        "mad.hi" => match ty {
            Type::U32 => Some(ternary!(u32, |a, b, c| (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c))),
            Type::S32 => Some(ternary!(i32, |a, b, c| (((i64::from(a) * i64::from(b)) >> 32) as i32).wrapping_add(c))),
            Type::U64 => Some(ternary!(u64, |a, b, c| (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c))),
            Type::S64 => Some(ternary!(i64, |a, b, c| (((i128::from(a) * i128::from(b)) >> 64) as i64).wrapping_add(c))),
            _ => None,
        },
        "mad.wide" => match ty {
            Type::U16 => Some(ternary!(u16, u16, u32, |a, b, c| (u32::from(a) * u32::from(b)).wrapping_add(c))),
            Type::S16 => Some(ternary!(i16, i16, i32, |a, b, c| (i32::from(a) * i32::from(b)).wrapping_add(c))),
            Type::U32 => Some(ternary!(u32, u32, u64, |a, b, c| (u64::from(a) * u64::from(b)).wrapping_add(c))),
            Type::S32 => Some(ternary!(i32, i32, i64, |a, b, c| (i64::from(a) * i64::from(b)).wrapping_add(c))),
            _ => None,
        },
        _ => None,
    }
}

/// `neg`, `abs`, `not`, `popc`, `clz` and `brev`.
pub(crate) fn unary_function(name: &str, ty: Type) -> Option<Unary> {
    match name {
        "neg" => match ty {
            Type::S16 => Some(unary!(i16, |a| a.wrapping_neg())),
            Type::S32 => Some(unary!(i32, |a| a.wrapping_neg())),
            Type::S64 => Some(unary!(i64, |a| a.wrapping_neg())),
            _ => None,
        },
        "abs" => match ty {
            Type::S16 => Some(unary!(i16, |a| a.wrapping_abs())),
            Type::S32 => Some(unary!(i32, |a| a.wrapping_abs())),
            Type::S64 => Some(unary!(i64, |a| a.wrapping_abs())),
            _ => None,
        },
        "not" => widths!(ty, T => unary!(T, |a| !a)),
        "popc" => widths!(ty, T => unary!(T, |a| a.count_ones())),
        "clz" => widths!(ty, T => unary!(T, |a| a.leading_zeros())),
        "brev" => widths!(ty, T => unary!(T, |a| a.reverse_bits())),
        _ => None,
    }
}

/// `and`, `or` and `xor`.
pub(crate) fn logic(name: &str, ty: Type) -> Option<Binary> {
    match name {
        "and" => widths!(ty, T => binary!(T, |a, b| a & b)),
        "or" => widths!(ty, T => binary!(T, |a, b| a | b)),
        "xor" => widths!(ty, T => binary!(T, |a, b| a ^ b)),
        _ => None,
    }
}

/// `shl` and `shr`; amounts past the width shift everything out.
pub(crate) fn shift(name: &str, ty: Type) -> Option<Binary> {
    match name {
        "shl" => widths!(ty, T => binary!(T, u32, |a, b| a.checked_shl(b).unwrap_or(0))),
        "shr" if ty.is_signed() => integers!(ty, T => binary!(T, u32, |a, b| a >> b.min(T::BITS - 1))),
        "shr" => widths!(ty, T => binary!(T, u32, |a, b| a.checked_shr(b).unwrap_or(0))),
        _ => None,
    }
}

/// `shf`: the pair (b, a) shifted by c, clamped or wrapped.
pub(crate) fn funnel(left: bool, wrap: bool) -> Ternary {
    match (left, wrap) {
        (true, true) => ternary!(u32, |a, b, c| ((pair(a, b) << (c & 31)) >> 32) as u32),
        (true, false) => ternary!(u32, |a, b, c| ((pair(a, b) << c.min(32)) >> 32) as u32),
        (false, true) => ternary!(u32, |a, b, c| (pair(a, b) >> (c & 31)) as u32),
        (false, false) => ternary!(u32, |a, b, c| (pair(a, b) >> c.min(32)) as u32),
    }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// `slct`: a where c >= 0, else b.
pub(crate) fn select_by_sign(float: bool) -> Ternary {
    if float {
        ternary!(u64, u64, f32, |a, b, c| if c >= 0.0 { a } else { b })
    } else {
        ternary!(u64, u64, i32, |a, b, c| if c >= 0 { a } else { b })
    }
}

/// `prmt` without a mode: each nibble of c picks a byte of (b, a), or its sign.
pub(crate) fn permute() -> Ternary {
    ternary!(u32, |a, b, c| {
        let bytes = pair(a, b);
        let pick = |k: u32| {
            let selector = c >> (4 * k) & 15;
            let byte = (bytes >> (8 * (selector & 7))) as u8;
            let byte = if selector & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 };
            u32::from(byte) << (8 * k)
        };
        pick(0) | pick(1) | pick(2) | pick(3)
    })
}

/// `bfe`: len bits of `a` from position pos, extended.
fn extract(a: u64, pos: u32, len: u32, bits: u32, signed: bool) -> u64 {
    let (pos, len) = (pos & 0xFF, len & 0xFF);
    let present = len.min(bits.saturating_sub(pos));
    let ones = |n: u32| if n >= 64 { u64::MAX } else { (1 << n) - 1 };
    let field = a.checked_shr(pos).unwrap_or(0) & ones(present);
    let sign = signed && len > 0 && a >> (pos + len - 1).min(bits - 1) & 1 == 1;
    if sign { (field | !ones(present)) & ones(bits) } else { field }
}

/// `bfe` over a warp: value, position, length.
pub(crate) fn bit_field_extract(ty: Type) -> Option<Ternary> {
    Some(match ty {
        Type::U32 => ternary!(u64, u32, u32, |a, pos, len| extract(a, pos, len, 32, false)),
        Type::S32 => ternary!(u64, u32, u32, |a, pos, len| extract(a, pos, len, 32, true)),
        Type::U64 => ternary!(u64, u32, u32, |a, pos, len| extract(a, pos, len, 64, false)),
        Type::S64 => ternary!(u64, u32, u32, |a, pos, len| extract(a, pos, len, 64, true)),
        _ => return None,
    })
}

/// `bfi`: the low len bits of `a` put into `b` at position pos; `bits` wide.
pub(crate) fn bit_field_insert(a: u64, b: u64, pos: u64, len: u64, bits: u64) -> u64 {
    let (pos, len) = (pos & 0xFF, len & 0xFF);
    let present = len.min(bits.saturating_sub(pos));
    if present == 0 {
        return b;
    }
    let ones = (u64::MAX >> (64 - present)) << pos;
    b & !ones | a << pos & ones
}

/// `lop3`: bit 4 a + 2 b + c of the table for every bit position.
pub(crate) fn lop3(a: u64, b: u64, c: u64, table: u8) -> u64 {
    let mut result = 0;
    for row in 0..8 {
        if table >> row & 1 == 1 {
            let term = |x: u64, bit: u8| if row & bit != 0 { x } else { !x };
            result |= term(a, 4) & term(b, 2) & term(c, 1);
        }
    }
    result & 0xFFFF_FFFF
}

/// A comparison of `setp` by its name.
pub(crate) fn compare(name: &str, ty: Type) -> Option<Comparison> {
    match name {
        "eq" => widths!(ty, T => comparison!(T, |a, b| a == b)),
        "ne" => widths!(ty, T => comparison!(T, |a, b| a != b)),
        "lt" => integers!(ty, T => comparison!(T, |a, b| a < b)),
        "le" => integers!(ty, T => comparison!(T, |a, b| a <= b)),
        "gt" => integers!(ty, T => comparison!(T, |a, b| a > b)),
        "ge" => integers!(ty, T => comparison!(T, |a, b| a >= b)),
        "lo" if !ty.is_signed() => integers!(ty, T => comparison!(T, |a, b| a < b)),
        "ls" if !ty.is_signed() => integers!(ty, T => comparison!(T, |a, b| a <= b)),
        "hi" if !ty.is_signed() => integers!(ty, T => comparison!(T, |a, b| a > b)),
        "hs" if !ty.is_signed() => integers!(ty, T => comparison!(T, |a, b| a >= b)),
        _ => None,
    }
}
