//! Compiled kernels, one for each `kernel@configuration`, made when first asked for.

use std::sync::{Arc, PoisonError};

use ::wgpu::{ComputePipelineDescriptor, PipelineCompilationOptions, ShaderModuleDescriptor, ShaderRuntimeChecks, ShaderSource};

use super::{Wgpu, report};
use crate::error::{Error, Result};
use crate::kernel::wgsl::overrides;
use crate::kernel::{Configuration, Kernel};

/// A compiled kernel.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) raw: ::wgpu::ComputePipeline,
    pub(super) layout: ::wgpu::BindGroupLayout,
    /// `kernel@configuration`.
    pub(super) name: String,
    pub(super) threads: u32,
    pub(super) shared: u32,
}

impl Wgpu {
    /// The compiled kernel; the first call compiles it.
    pub fn pipeline(&self, kernel: &Kernel, configuration: &Configuration) -> Result<Arc<Pipeline>> {
        let name = format!("{}@{}", kernel.name, configuration.name);
        let cache = || self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = cache().get(&name) {
            return Ok(Arc::clone(pipeline));
        }
        self.check_fits(&name, configuration)?;
        let mut text = kernel.expand(configuration)?;
        if let Some((words, bug)) = self.options.planted {
            text = text.replace(words, bug);
        }
        let checked = self.options.runtime_checks || self.options.planted.is_some();
        let checks = if checked { ShaderRuntimeChecks::checked() } else { ShaderRuntimeChecks::unchecked() };
        let pipeline = Arc::new(self.compile(&name, kernel.name, &text, configuration, checks)?);
        Ok(Arc::clone(cache().entry(name).or_insert(pipeline)))
    }

    /// Compiles a text that is no kernel of the registry, with every run-time check.
    pub fn pipeline_of(&self, name: &str, entry: &str, text: &str, configuration: &Configuration) -> Result<Arc<Pipeline>> {
        self.check_fits(name, configuration)?;
        let checks = ShaderRuntimeChecks::checked();
        self.compile(name, entry, text, configuration, checks).map(Arc::new)
    }

    fn check_fits(&self, name: &str, configuration: &Configuration) -> Result<()> {
        let (threads, shared) =
            (self.limits.max_compute_invocations_per_workgroup, self.limits.max_compute_workgroup_storage_size);
        if configuration.threads <= threads && configuration.shared <= shared {
            return Ok(());
        }
        Err(Error::Kernel {
            name: name.into(),
            found: format!("{} invocations and {} bytes of workgroup memory", configuration.threads, configuration.shared),
            expected: format!("at most {threads} and {shared} on {}", self.adapter.name),
        })
    }

    fn compile(
        &self,
        name: &str,
        entry: &str,
        text: &str,
        configuration: &Configuration,
        checks: ShaderRuntimeChecks,
    ) -> Result<Pipeline> {
        let refused = |log: String| Error::Jit {
            kernel: name.into(),
            device: self.adapter.name.clone(),
            code: "WGSL".into(),
            log: log.trim().into(),
        };
        let descriptor = ShaderModuleDescriptor { label: Some(name), source: ShaderSource::Wgsl(text.into()) };
        // SAFETY: without run-time checks an index out of bounds or a loop without end would be
        // undefined. `checks` is `unchecked` only for texts of the registry, which are part of this
        // build: every access to a binding is behind a comparison with sizes in the parameter block,
        // which the launchers check against the bindings that they make, numbers that were read from a
        // buffer too; every index into workgroup memory is below a constant of the text; every loop
        // counts up to a bound that no iteration changes, or halves a number down to such a bound, or takes
        // bits off it until it is 0. The
        // tests run the operations with and without the checks and compare all bytes.
        let module = self.scoped(|| unsafe { self.device.create_shader_module_trusted(descriptor, checks) }, refused)?;
        let constants = overrides(configuration);
        let descriptor = ComputePipelineDescriptor {
            label: Some(name),
            layout: None,
            module: &module,
            entry_point: Some(entry),
            // Every kernel writes workgroup memory before it reads it.
            compilation_options: PipelineCompilationOptions { constants: &constants, zero_initialize_workgroup_memory: false },
            cache: None,
        };
        let make = || {
            let raw = self.device.create_compute_pipeline(&descriptor);
            let layout = raw.get_bind_group_layout(0);
            (raw, layout)
        };
        let (raw, layout) = self.scoped(make, |log| refused(report::one_line(&log)))?;
        Ok(Pipeline { raw, layout, name: name.into(), threads: configuration.threads, shared: configuration.shared })
    }
}
