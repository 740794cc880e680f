//! The scalar types of PTX and how values lie in 64-bit lanes: zero-extended bit patterns, floats by their bits.

/// A scalar type, as named by an instruction or a register declaration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Type {
    B8,
    B16,
    B32,
    B64,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
    Pred,
}

/// What the bits of a type mean, as far as PTX checks it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    Bits,
    Integer,
    Float,
    Predicate,
}

const NAMES: [(&str, Type); 20] = [
    ("b8", Type::B8),
    ("b16", Type::B16),
    ("b32", Type::B32),
    ("b64", Type::B64),
    ("u8", Type::U8),
    ("u16", Type::U16),
    ("u32", Type::U32),
    ("u64", Type::U64),
    ("s8", Type::S8),
    ("s16", Type::S16),
    ("s32", Type::S32),
    ("s64", Type::S64),
    ("f16", Type::F16),
    ("f16x2", Type::F16x2),
    ("bf16", Type::Bf16),
    ("bf16x2", Type::Bf16x2),
    ("tf32", Type::Tf32),
    ("f32", Type::F32),
    ("f64", Type::F64),
    ("pred", Type::Pred),
];

impl Type {
    /// The type of that name, without its dot.
    pub fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|&(_, ty)| ty)
    }

    pub fn name(self) -> &'static str {
        NAMES.iter().find(|&&(_, ty)| ty == self).map_or("", |&(name, _)| name)
    }

    /// Bytes of a value; 0 for predicates.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Pred => 0,
            Self::B8 | Self::U8 | Self::S8 => 1,
            Self::B16 | Self::U16 | Self::S16 | Self::F16 | Self::Bf16 => 2,
            Self::B32 | Self::U32 | Self::S32 | Self::F32 | Self::F16x2 | Self::Bf16x2 | Self::Tf32 => 4,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 8,
        }
    }

    /// Values of packed halves and of formats without registers of their own live in bit registers.
    pub fn meaning(self) -> Meaning {
        match self {
            Self::Pred => Meaning::Predicate,
            Self::F32 | Self::F64 => Meaning::Float,
            Self::U8 | Self::U16 | Self::U32 | Self::U64 | Self::S8 | Self::S16 | Self::S32 | Self::S64 => Meaning::Integer,
            _ => Meaning::Bits,
        }
    }

    pub fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    pub fn is_integer(self) -> bool {
        self.meaning() == Meaning::Integer
    }

    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::Tf32 | Self::F32 | Self::F64)
    }

    /// The bits of a value of this type within a lane.
    pub fn mask(self) -> u64 {
        match self.bytes() {
            1 => 0xFF,
            2 => 0xFFFF,
            4 => 0xFFFF_FFFF,
            _ => u64::MAX,
        }
    }
}

/// A Rust type that stands for the low bits of a lane.
pub(crate) trait Value: Copy {
    fn get(lane: u64) -> Self;
    fn put(self) -> u64;
}

macro_rules! unsigned_value {
    ($($t:ty),*) => {$(
        impl Value for $t {
            #[inline(always)]
            fn get(lane: u64) -> Self {
                lane as $t
            }
            #[inline(always)]
            fn put(self) -> u64 {
                u64::from(self)
            }
        }
    )*};
}
unsigned_value!(u8, u16, u32, u64);

macro_rules! signed_value {
    ($($t:ty as $u:ty),*) => {$(
        impl Value for $t {
            #[inline(always)]
            fn get(lane: u64) -> Self {
                lane as $t
            }
            #[inline(always)]
            fn put(self) -> u64 {
                u64::from(self as $u)
            }
        }
    )*};
}
signed_value!(i8 as u8, i16 as u16, i32 as u32, i64 as u64);

impl Value for f32 {
    #[inline(always)]
    fn get(lane: u64) -> Self {
        Self::from_bits(lane as u32)
    }
    /// NaN results of single precision are the canonical 0x7FFFFFFF.
    #[inline(always)]
    fn put(self) -> u64 {
        if self.is_nan() { 0x7FFF_FFFF } else { u64::from(self.to_bits()) }
    }
}

impl Value for f64 {
    #[inline(always)]
    fn get(lane: u64) -> Self {
        Self::from_bits(lane)
    }
    #[inline(always)]
    fn put(self) -> u64 {
        self.to_bits()
    }
}
