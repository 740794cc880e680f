//! A parsed PTX module and its kernels, as the host sees them.

use std::sync::Arc;

use crate::fault::ParseError;
use crate::instruction::{Content, Instruction};
use crate::parser;

/// A parameter of a kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Param {
    pub name: String,
    /// Bytes from the start of the parameter buffer.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Bytes.
    pub align: u32,
}

/// One entry of a module, ready to launch.
#[derive(Debug)]
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) params: Vec<Param>,
    pub(crate) static_shared: u32,
    /// `.reqntid`
    pub(crate) required: Option<[u32; 3]>,
    /// `.maxntid`
    pub(crate) most: Option<[u32; 3]>,
    pub(crate) target: String,
    /// What the register file holds when a block starts.
    pub(crate) contents: Vec<Content>,
    /// The names of the predicates.
    pub(crate) predicates: Vec<String>,
    pub(crate) code: Vec<Instruction>,
    /// The granule in which accesses are tracked: 1, 2 or 4 bytes.
    pub(crate) smallest_access: u32,
    /// The lines of the text, trimmed.
    pub(crate) lines: Arc<[String]>,
}

impl Kernel {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameters in order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Bytes of the parameter buffer.
    pub fn param_bytes(&self) -> u32 {
        self.params.last().map_or(0, |last| last.offset + last.size)
    }

    /// Bytes of static shared memory.
    pub fn static_shared(&self) -> u32 {
        self.static_shared
    }

    /// The most threads of a block: `.maxntid` or `.reqntid`, else 1024.
    pub fn max_threads(&self) -> u32 {
        let product = |extents: [u32; 3]| extents.iter().fold(1u32, |product, &extent| product.saturating_mul(extent));
        self.required.or(self.most).map_or(1024, product)
    }
}

/// A parsed PTX text.
#[derive(Debug)]
pub struct Module {
    pub(crate) version: String,
    pub(crate) target: String,
    pub(crate) kernels: Vec<Arc<Kernel>>,
}

impl Module {
    /// Parses and decodes a PTX text.
    ///
    /// # Errors
    /// The line and what was found there, for text that is no PTX and for PTX outside the subset.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parser::parse(text)
    }

    /// The entry of that name.
    pub fn kernel(&self, name: &str) -> Option<Arc<Kernel>> {
        self.kernels.iter().find(|kernel| kernel.name == name).cloned()
    }

    /// All entries in the order of the text.
    pub fn kernels(&self) -> &[Arc<Kernel>] {
        &self.kernels
    }

    /// The target, such as `sm_80`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The PTX version, such as `7.0`.
    pub fn version(&self) -> &str {
        &self.version
    }
}
