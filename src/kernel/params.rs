//! Parameter blocks: one struct a kernel, whose field offsets the kernel's text reads as
//! constants, so that host and kernel cannot drift apart.

/// A field of a parameter block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    /// Bytes from the start of the block.
    pub offset: usize,
    /// The Rust type: `u64` (an address or a length in elements), `u32`, `f32` or `f64`.
    pub kind: &'static str,
}

/// A parameter block: the kernel's only parameter, passed by value.
pub trait Params: Copy {
    const FIELDS: &'static [Field];

    /// The block as it lies in memory, with zeros where it is padded.
    fn bytes(&self) -> Vec<u8>;
}

macro_rules! params {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident: $kind:ident,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name { $($(#[$field_doc])* pub $field: $kind,)* }

        impl $crate::kernel::params::Params for $name {
            const FIELDS: &'static [$crate::kernel::params::Field] = &[$($crate::kernel::params::Field {
                name: stringify!($field),
                offset: std::mem::offset_of!($name, $field),
                kind: stringify!($kind),
            },)*];

            fn bytes(&self) -> Vec<u8> {
                let mut bytes = vec![0; size_of::<Self>()];
                $(bytes[std::mem::offset_of!($name, $field)..][..size_of::<$kind>()]
                    .copy_from_slice(bytemuck::bytes_of(&self.$field));)*
                bytes
            }
        }
    };
}
pub(crate) use params;
