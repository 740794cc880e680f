//! The wgpu backend's device: an open adapter, its buffers, its compiled pipelines and its queue.
//!
//! Every call blocks until it is done or queued, and every failure that wgpu reports (a refused
//! shader, memory that ran out, a lost device) becomes an [`Error`] of the call that met it. Nothing
//! here but the check of cooperative matrices knows an operation: [`crate::ops`] says what to launch,
//! [`crate::kernel`] with what text.

mod adapters;
mod buffer;
mod cooperative;
mod launch;
mod pipeline;
mod probe;
mod report;
mod subgroups;
mod weights;

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ::wgpu::{Device, Features, Limits, Queue};

pub use adapters::{Adapter, Kind, KnownFault};
pub use buffer::{View, WgpuBuffer};
pub use cooperative::Cooperative;
pub use launch::{Binding, Launch, Recorded, grid};
pub use pipeline::Pipeline;
pub use probe::Exactness;
pub use subgroups::Subgroups;

use crate::error::{Error, Result};
use crate::kernel::wgsl;
use crate::kernel::wgsl::linear_coop::Unit;
use report::Failure;
use weights::Weight;

/// How a device is opened; the default is what runs use but for `cooperative`, which a flag sets. Tests change the others.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most bytes of one binding, where less than the adapter's own limit is wanted.
    pub largest_binding: Option<u64>,
    /// The most workgroups along an axis, where less than the adapter's own limit is wanted.
    pub largest_grid: Option<u32>,
    /// Whether parameters travel as immediates where the adapter has them.
    pub immediates: bool,
    /// Whether weights that lose nothing by it are kept as f16 or bf16.
    pub narrow_weights: bool,
    /// Whether numbers are joined by subgroups where the adapter has them.
    pub subgroups: bool,
    /// Whether shaders keep the bounds checks that wgpu adds to them.
    pub runtime_checks: bool,
    /// What large linear maps are computed with.
    pub cooperative: Cooperative,
    /// Words of the shaders and what to put in their place: a bug that a test plants. Such shaders keep
    /// their bounds checks.
    pub planted: Option<(&'static str, &'static str)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            largest_binding: None,
            largest_grid: None,
            immediates: true,
            narrow_weights: true,
            subgroups: true,
            runtime_checks: false,
            cooperative: Cooperative::Off,
            planted: None,
        }
    }
}

/// What a table on the device is made of, and lives as long as.
type Owner = Arc<dyn Any + Send + Sync>;

/// An open adapter.
#[derive(Debug)]
pub struct Wgpu {
    device: Device,
    queue: Queue,
    adapter: Adapter,
    limits: Limits,
    options: Options,
    exactness: Exactness,
    subgroups: Subgroups,
    /// What large linear maps are multiplied with.
    matrix_unit: Option<Unit>,
    /// The largest relative difference that the check of it has found.
    matrix_difference: f64,
    failure: Failure,
    pipelines: Mutex<HashMap<String, Arc<Pipeline>>>,
    /// Weights by the address of their host copy.
    tensors: Mutex<HashMap<usize, Weight>>,
    /// Tables by the address of their owner.
    tables: Mutex<HashMap<usize, (Owner, WgpuBuffer)>>,
    /// Bound where a shader declares an output that a launch does not ask for.
    spare: ::wgpu::Buffer,
    /// The same for inputs.
    spare_input: ::wgpu::Buffer,
}

impl Wgpu {
    /// Opens an adapter: the best hardware adapter, or the best of those whose name holds `name`,
    /// whatever its case, software ones too.
    pub fn open(name: Option<&str>) -> Result<Self> {
        Self::open_with(name, Options::default())
    }

    /// [`Wgpu::open`] with other options than the usual.
    pub fn open_with(name: Option<&str>, options: Options) -> Result<Self> {
        let (raw, adapter) = adapters::find(name)?;
        let mut limits = raw.limits();
        if let Some(bytes) = options.largest_binding {
            limits.max_storage_buffer_binding_size = limits.max_storage_buffer_binding_size.min(bytes);
        }
        let matrix_unit = cooperative::unit(&raw, &adapter, options.cooperative)?;
        let mut wanted = Features::IMMEDIATES | Features::TIMESTAMP_QUERY;
        wanted.set(Features::SUBGROUP, options.subgroups);
        let descriptor = ::wgpu::DeviceDescriptor {
            label: Some("mechgraph"),
            required_features: raw.features() & wanted | cooperative::features(matrix_unit),
            required_limits: limits.clone(),
            experimental_features: cooperative::experimental(matrix_unit),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(raw.request_device(&descriptor)).map_err(|e| Error::Driver {
            device: adapter.name.clone(),
            action: "opening the adapter".into(),
            found: report::one_line(&e.to_string()),
        })?;
        let failure = Failure::watch(&device);
        let [spare, spare_input] = ["spare output", "spare input"].map(|label| {
            let (size, usage) = (buffer::SPARE_BYTES, ::wgpu::BufferUsages::STORAGE);
            device.create_buffer(&::wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        });
        let mut this = Self {
            device,
            queue,
            adapter,
            limits,
            options,
            exactness: Exactness::default(),
            subgroups: Subgroups::Absent,
            matrix_unit,
            matrix_difference: 0.0,
            failure,
            pipelines: Mutex::default(),
            tensors: Mutex::default(),
            tables: Mutex::default(),
            spare,
            spare_input,
        };
        this.exactness = probe::run(&this)?;
        this.subgroups = subgroups::run(&this)?;
        if let Some(unit) = matrix_unit {
            this.matrix_difference = cooperative::check(&this, unit)?;
        }
        Ok(this)
    }

    /// Every adapter of this machine, the one that [`Wgpu::open`] would take first.
    pub fn adapters() -> Vec<Adapter> {
        adapters::list().into_iter().map(|(_, adapter)| adapter).collect()
    }
    /// What is known about the adapter.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }
    /// One line for people: the adapter, its driver, how exact its arithmetic is, its subgroups, and what large linear
    /// maps are multiplied with.
    pub fn describe(&self) -> String {
        let matrices = match self.matrix_unit {
            Some(unit) => format!("; linear maps on {unit}, checked: {:.1e}", self.matrix_difference),
            None => String::new(),
        };
        format!("{}; {}; {}{matrices}", self.adapter, self.exactness, self.subgroups)
    }
    /// What large linear maps are multiplied with, where the device was opened so.
    pub fn matrix_unit(&self) -> Option<Unit> {
        self.matrix_unit
    }
    /// Which error-free transformations the adapter keeps exact.
    pub fn exactness(&self) -> Exactness {
        self.exactness
    }
    /// What its subgroups were found to be.
    pub fn subgroups(&self) -> Subgroups {
        self.subgroups
    }
    /// The adapter's limits, as far as this device may use them.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
    /// What kernels may count on.
    pub fn kernel_limits(&self) -> wgsl::Limits {
        let immediates = self.options.immediates && self.device.features().contains(Features::IMMEDIATES);
        wgsl::Limits {
            invocations: self.limits.max_compute_invocations_per_workgroup,
            workgroup_memory: self.limits.max_compute_workgroup_storage_size,
            immediates: if immediates { self.limits.max_immediate_size } else { 0 },
            binding: self.binding_elements(),
            exact_sums: self.exactness.two_sum,
            subgroups: matches!(self.subgroups, Subgroups::Of(_)),
        }
    }
    /// Waits until everything that was submitted has run.
    pub fn wait(&self) -> Result<()> {
        self.poll("waiting for the device")
    }
}
