//! Values of all lanes of a warp at once, and functions over them. Lanes that take no part are computed as well and
//! dropped afterwards, so no function here may fail or panic for any bits.

/// Threads of a warp.
pub(crate) const WARP: usize = 32;
/// All lanes of a warp, as a mask.
pub(crate) const ALL: u32 = u32::MAX;

/// One register of a warp: a value for each lane.
pub(crate) type Lanes = [u64; WARP];

pub(crate) type Unary = fn(&Lanes) -> Lanes;
pub(crate) type Binary = fn(&Lanes, &Lanes) -> Lanes;
pub(crate) type Ternary = fn(&Lanes, &Lanes, &Lanes) -> Lanes;
/// A comparison: bit l of the result is that of lane l.
pub(crate) type Comparison = fn(&Lanes, &Lanes) -> u32;

/// `unary!(f32, |a| -a)`: a [`Unary`] over lanes of that type.
macro_rules! unary {
    ($t:ty, |$a:ident| $e:expr) => {{
        fn each(a: &$crate::lanes::Lanes) -> $crate::lanes::Lanes {
            std::array::from_fn(|i| {
                let $a = <$t as $crate::types::Value>::get(a[i]);
                $crate::types::Value::put($e)
            })
        }
        each as $crate::lanes::Unary
    }};
}

/// `binary!(u32, |a, b| a.wrapping_add(b))`: a [`Binary`] over lanes of that type.
macro_rules! binary {
    ($t:ty, |$a:ident, $b:ident| $e:expr) => {
        binary!($t, $t, |$a, $b| $e)
    };
    ($ta:ty, $tb:ty, |$a:ident, $b:ident| $e:expr) => {{
        fn each(a: &$crate::lanes::Lanes, b: &$crate::lanes::Lanes) -> $crate::lanes::Lanes {
            std::array::from_fn(|i| {
                let $a = <$ta as $crate::types::Value>::get(a[i]);
                let $b = <$tb as $crate::types::Value>::get(b[i]);
                $crate::types::Value::put($e)
            })
        }
        each as $crate::lanes::Binary
    }};
}

/// `ternary!(f32, |a, b, c| a.mul_add(b, c))`: a [`Ternary`] over lanes of that type.
macro_rules! ternary {
    ($t:ty, |$a:ident, $b:ident, $c:ident| $e:expr) => {
        ternary!($t, $t, $t, |$a, $b, $c| $e)
    };
    ($ta:ty, $tb:ty, $tc:ty, |$a:ident, $b:ident, $c:ident| $e:expr) => {{
        fn each(a: &$crate::lanes::Lanes, b: &$crate::lanes::Lanes, c: &$crate::lanes::Lanes) -> $crate::lanes::Lanes {
            std::array::from_fn(|i| {
                let $a = <$ta as $crate::types::Value>::get(a[i]);
                let $b = <$tb as $crate::types::Value>::get(b[i]);
                let $c = <$tc as $crate::types::Value>::get(c[i]);
                $crate::types::Value::put($e)
            })
        }
        each as $crate::lanes::Ternary
    }};
}

/// `comparison!(i32, |a, b| a < b)`: a [`Comparison`] over lanes of that type.
macro_rules! comparison {
    ($t:ty, |$a:ident, $b:ident| $e:expr) => {{
        fn each(a: &$crate::lanes::Lanes, b: &$crate::lanes::Lanes) -> u32 {
            let mut mask = 0;
            for i in 0..$crate::lanes::WARP {
                let $a = <$t as $crate::types::Value>::get(a[i]);
                let $b = <$t as $crate::types::Value>::get(b[i]);
                mask |= u32::from($e) << i;
            }
            mask
        }
        each as $crate::lanes::Comparison
    }};
}

pub(crate) use {binary, comparison, ternary, unary};

/// The lanes of a mask, ascending.
pub(crate) fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        (lane < WARP).then_some(lane)
    })
}
