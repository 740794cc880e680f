//! The kernel files of this build: what each computes, for which devices, in which configurations.
//!
//! A kernel's file name, entry name and registry key are the same word. A configuration is a set of
//! constants for its text; `kernel@configuration` names what a device is handed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::params::Field;
use super::template::{self, Constants};
use super::{ptx, sources, wgsl};
use crate::error::{Error, Result};

/// What a kernel is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// PTX for devices of at least this compute capability.
    Ptx {
        least: (u32, u32),
    },
    Wgsl,
}

impl Language {
    /// PTX that uses nothing newer than compute capability 8.0.
    pub const SM80: Self = Language::Ptx { least: (8, 0) };
}

/// One kernel file.
#[derive(Debug)]
pub struct Kernel {
    /// File name without its ending, entry name and key: `gram_f64_sm80`.
    pub name: &'static str,
    /// The operation of [`crate::ops`] that it computes: `gram`.
    pub operation: &'static str,
    pub language: Language,
    /// The text of the file.
    pub source: &'static str,
    /// Its parameter block.
    pub params: &'static [Field],
    /// Every configuration that a device may be handed, the smallest first.
    pub configurations: fn() -> Vec<Configuration>,
}

/// The constants of a kernel's text and what follows from them for a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Unique within its kernel: `128x128x16-relu`.
    pub name: String,
    pub constants: Constants,
    /// Threads of a CTA, or invocations of a workgroup.
    pub threads: u32,
    /// Bytes of dynamic shared memory a CTA, or of workgroup memory.
    pub shared: u32,
}

impl Kernel {
    /// The text that a device is handed.
    pub fn expand(&self, configuration: &Configuration) -> Result<String> {
        match self.language {
            Language::Ptx { .. } => self.expand_with(configuration, &ptx::fragment),
            Language::Wgsl => self.expand_with(configuration, &wgsl::fragment),
        }
    }
    /// [`Kernel::expand`] with the fragments that `fragment` finds.
    pub(super) fn expand_with(
        &self,
        configuration: &Configuration,
        fragment: &dyn Fn(&str) -> Option<&'static str>,
    ) -> Result<String> {
        let mut constants = configuration.constants.clone().int("THREADS", configuration.threads as usize);
        for field in self.params {
            constants = constants.int(format!("params.{}", field.name), field.offset);
        }
        let size = self.params.last().map_or(0, |f| f.offset + if matches!(f.kind, "u64" | "f64") { 8 } else { 4 });
        constants = constants.int("params.size", size.next_multiple_of(8));
        let (file, source) = match self.language {
            Language::Ptx { .. } => {
                let file = format!("{}.ptx", self.name);
                (format!("kernels/{file}"), sources::text(&file, self.source))
            }
            Language::Wgsl => (format!("shaders/{}.wgsl", self.name), self.source),
        };
        template::expand(&file, source, &constants, fragment)
    }
    /// [`Kernel::configurations`], made when they are first asked for: a model asks hundreds of times.
    pub fn all(&self) -> &'static [Configuration] {
        static ALL: Mutex<BTreeMap<&str, &[Configuration]>> = Mutex::new(BTreeMap::new());
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(self.name).or_insert_with(|| Vec::leak((self.configurations)()))
    }
    /// The configuration of that name.
    pub fn configuration(&self, name: &str) -> Result<Configuration> {
        let all = self.all();
        let known = || all.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        all.iter().find(|c| c.name == name).cloned().ok_or_else(|| {
            let what = format!("no configuration '{name}' of kernel {}", self.name);
            Error::Kernel { name: self.name.into(), found: what, expected: format!("one of {}", known()) }
        })
    }
}

/// All kernels: PTX first, then WGSL.
pub fn all() -> impl Iterator<Item = &'static Kernel> {
    ptx::KERNELS.iter().chain(wgsl::KERNELS).copied()
}

/// The kernel of that name.
pub fn find(name: &str) -> Result<&'static Kernel> {
    all().find(|k| k.name == name).ok_or_else(|| {
        // There are too many to name all.
        let first = |name: &'static str| name.split('_').next().unwrap_or(name);
        let alike = all().map(|k| k.name).filter(|known| name.starts_with(first(known)));
        let alike: Vec<&str> = alike.chain(["another that mechgraph kernels --list names"]).collect();
        let expected = format!("one of {}", alike.join(", "));
        Error::Kernel { name: name.into(), found: format!("no kernel '{name}'"), expected }
    })
}
