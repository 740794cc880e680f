//! The CUDA backend above the seam: modules compiled when first used, device memory, uploads through
//! page-locked staging, launches, captured graphs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::{Driver, Event, Failure, Function, FunctionProperties, Graph, Nvidia, Properties, Shape, Stream};
use super::tensor::Tensor;
use crate::error::{Error, Result};
use crate::kernel::{Configuration, Kernel, Language};

/// Bytes of one staging buffer: large enough to reach the bus's rate.
const STAGING: usize = 8 << 20;

/// Which driver plays the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    #[default]
    Nvidia,
    Interpreter,
}

/// An opened CUDA device. Clones share it.
#[derive(Clone, Debug)]
pub struct Cuda(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    driver: Driver,
    properties: Properties,
    /// Kernels and read-backs.
    compute: Stream,
    /// Uploads.
    copies: Stream,
    staging: Mutex<Staging>,
    functions: Mutex<HashMap<String, Function>>,
    /// Weights on the device by the address of their host copy, which is kept so that no other tensor
    /// can take it.
    tensors: Mutex<HashMap<usize, (Tensor, u64)>>,
}

/// Two page-locked buffers that take turns: one is filled while the other travels.
#[derive(Debug)]
struct Staging {
    buffers: [u64; 2],
    /// Passed when a buffer's last copy has arrived.
    sent: [Event; 2],
    /// Passed when the kernels launched so far are done.
    computed: Event,
    turn: usize,
    /// Receives read-backs.
    back: u64,
}

/// Device memory that is freed when it is dropped.
#[derive(Debug)]
pub struct Memory {
    pub address: u64,
    pub bytes: u64,
    device: Cuda,
}

/// A resolved launch: everything but its turn.
#[derive(Clone, Debug)]
pub struct Call {
    /// `kernel@configuration`, for errors.
    pub kernel: String,
    pub function: Function,
    pub shape: Shape,
    /// The parameter block.
    pub params: Vec<u8>,
}

/// Launches that were captured and run as one.
#[derive(Debug)]
pub struct Replay {
    graph: Graph,
    device: Cuda,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cuda {
    /// Opens the first device of the real driver, or the interpreter.
    pub fn open(choice: DriverChoice) -> Result<Self> {
        match choice {
            DriverChoice::Nvidia => {
                let nvidia = Nvidia::open(0).map_err(|f| Error::Backend {
                    backend: "cuda",
                    found: f.code,
                    expected: "an NVIDIA GPU with its driver; --backend cpu or wgpu needs none".into(),
                })?;
                Self::over(Driver::Nvidia(nvidia))
            }
            #[cfg(feature = "ptxvm")]
            DriverChoice::Interpreter => Self::interpreter(ptxvm::Options::default()),
            #[cfg(not(feature = "ptxvm"))]
            DriverChoice::Interpreter => {
                Err(Error::flag("--driver", "interpreter, which this build lacks", "a build with the feature ptxvm"))
            }
        }
    }
    /// A device played by the PTX interpreter.
    #[cfg(feature = "ptxvm")]
    pub fn interpreter(options: ptxvm::Options) -> Result<Self> {
        Self::over(Driver::Interpreter(super::driver::Interpreter::new(options)))
    }
    fn over(driver: Driver) -> Result<Self> {
        let fail = |f: Failure| driver_error("cuda", "opening the device", f);
        let properties = driver.properties().map_err(fail)?;
        if properties.capability < (8, 0) {
            let (major, minor) = properties.capability;
            return Err(Error::Backend {
                backend: "cuda",
                found: format!("{} of compute capability {major}.{minor}", properties.name),
                expected: "compute capability 8.0 (Ampere) or newer".into(),
            });
        }
        let staging = Staging {
            buffers: [driver.pinned_alloc(STAGING, true).map_err(fail)?, driver.pinned_alloc(STAGING, true).map_err(fail)?],
            sent: [driver.event_create(false).map_err(fail)?, driver.event_create(false).map_err(fail)?],
            computed: driver.event_create(false).map_err(fail)?,
            turn: 0,
            back: driver.pinned_alloc(STAGING, false).map_err(fail)?,
        };
        let (compute, copies) = (driver.stream_create().map_err(fail)?, driver.stream_create().map_err(fail)?);
        Ok(Self(Arc::new(Shared {
            driver,
            properties,
            compute,
            copies,
            staging: Mutex::new(staging),
            functions: Mutex::default(),
            tensors: Mutex::default(),
        })))
    }
    pub fn properties(&self) -> &Properties {
        &self.0.properties
    }
    /// The seam, for those that time or count.
    pub fn driver(&self) -> &Driver {
        &self.0.driver
    }
    /// The stream of all kernels.
    pub fn stream(&self) -> Stream {
        self.0.compute
    }
    /// Whether the device is the interpreter.
    pub fn is_interpreter(&self) -> bool {
        !matches!(self.0.driver, Driver::Nvidia(_))
    }
    /// Name, compute capability, driver version.
    pub fn describe(&self) -> String {
        let Properties { name, capability: (major, minor), version, .. } = &self.0.properties;
        let what = if self.is_interpreter() { "PTX" } else { "CUDA" };
        format!("{name}, compute capability {major}.{minor}, {what} {version}")
    }
    /// Free bytes of device memory.
    pub fn free_memory(&self) -> Result<u64> {
        Ok(self.check("reading the free memory", self.0.driver.memory())?.0)
    }
    fn check<T>(&self, action: &str, result: super::driver::Result<T>) -> Result<T> {
        result.map_err(|f| driver_error(&self.0.properties.name, action, f))
    }

    /// Allocates device memory.
    pub fn alloc(&self, bytes: u64) -> Result<Memory> {
        let address = self.alloc_raw(bytes)?;
        Ok(Memory { address, bytes, device: self.clone() })
    }
    fn alloc_raw(&self, bytes: u64) -> Result<u64> {
        self.0.driver.alloc(bytes).map_err(|f| {
            let free = self.0.driver.memory().map_or_else(|_| "unknown".into(), |(free, _)| free.to_string());
            driver_error(&self.0.properties.name, &format!("allocating {bytes} bytes ({free} bytes are free)"), f)
        })
    }

    /// The compiled entry of a configuration; compiled when it is first asked for.
    pub fn function(&self, kernel: &Kernel, configuration: &Configuration) -> Result<Function> {
        let key = format!("{}@{}", kernel.name, configuration.name);
        let mut functions = lock(&self.0.functions);
        if let Some(function) = functions.get(&key) {
            return Ok(*function);
        }
        let Language::Ptx { least } = kernel.language else {
            return Err(Error::Kernel { name: key, found: "a kernel in WGSL".into(), expected: "one in PTX".into() });
        };
        if self.0.properties.capability < least {
            let found = format!("a device of compute capability {:?}", self.0.properties.capability);
            return Err(Error::Kernel { name: key, found, expected: format!("at least {least:?}") });
        }
        let text = kernel.expand(configuration)?;
        let jit = |f: Failure| Error::Jit {
            kernel: key.clone(),
            device: self.describe(),
            code: f.code,
            log: if f.log.is_empty() { "no log".into() } else { f.log },
        };
        let driver = &self.0.driver;
        let module = driver.module_load(&text).map_err(jit)?;
        let function = driver.function(module, kernel.name).map_err(jit)?;
        if configuration.shared > 48 << 10 {
            driver.allow_shared(function, configuration.shared).map_err(jit)?;
        }
        functions.insert(key, function);
        Ok(function)
    }
    /// What a compiled entry takes.
    pub fn function_properties(&self, function: Function) -> Result<FunctionProperties> {
        self.check("reading a kernel's properties", self.0.driver.function_properties(function))
    }
    /// Resolves a launch of `kernel` in a configuration with its parameter block.
    pub fn call(
        &self,
        kernel: &Kernel,
        configuration: &Configuration,
        grid: [u32; 3],
        params: &impl crate::kernel::Params,
    ) -> Result<Call> {
        let function = self.function(kernel, configuration)?;
        let shape = Shape { grid, block: [configuration.threads, 1, 1], shared: configuration.shared };
        let params = bytemuck::bytes_of(params).to_vec();
        Ok(Call { kernel: format!("{}@{}", kernel.name, configuration.name), function, shape, params })
    }
    /// The address of a weight on the device; uploaded when it is first asked for and kept.
    pub fn tensor(&self, tensor: &Tensor) -> Result<u64> {
        let data = tensor.raw();
        let key = data.as_ptr() as usize;
        let mut tensors = lock(&self.0.tensors);
        if let Some((_, address)) = tensors.get(&key) {
            return Ok(*address);
        }
        let address = self.alloc_raw(data.len() as u64)?;
        self.upload(address, data)?;
        tensors.insert(key, (tensor.clone(), address));
        Ok(address)
    }

    /// Copies bytes to the device, after the kernels launched so far and before those launched later.
    pub fn upload(&self, to: u64, bytes: &[u8]) -> Result<()> {
        let Shared { driver, compute, copies, .. } = &*self.0;
        let mut staging = lock(&self.0.staging);
        let mut send = || {
            driver.event_record(staging.computed, *compute)?;
            driver.stream_wait(*copies, staging.computed)?;
            for (i, chunk) in bytes.chunks(STAGING).enumerate() {
                let turn = staging.turn;
                staging.turn = 1 - turn;
                driver.event_synchronize(staging.sent[turn])?;
                driver.pinned_write(staging.buffers[turn], chunk)?;
                driver.copy_to_device(to + (i * STAGING) as u64, staging.buffers[turn], chunk.len(), *copies)?;
                driver.event_record(staging.sent[turn], *copies)?;
                driver.stream_wait(*compute, staging.sent[turn])?;
            }
            Ok(())
        };
        let sent = send();
        self.check(&format!("uploading {} bytes", bytes.len()), sent)
    }
    /// Copies bytes from the device once all kernels launched so far are done.
    pub fn download(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        let Shared { driver, compute, .. } = &*self.0;
        let staging = lock(&self.0.staging);
        let asked = bytes.len();
        let mut receive = || {
            for (i, chunk) in bytes.chunks_mut(STAGING).enumerate() {
                driver.copy_to_host(staging.back, from + (i * STAGING) as u64, chunk.len(), *compute)?;
                driver.stream_synchronize(*compute)?;
                driver.pinned_read(staging.back, chunk)?;
            }
            Ok(())
        };
        let received = receive();
        self.check(&format!("reading back {asked} bytes"), received)
    }
    /// Waits for all kernels launched so far.
    pub fn synchronize(&self) -> Result<()> {
        self.check("waiting for the kernels", self.0.driver.stream_synchronize(self.0.compute))
    }
    /// Launches in this order.
    pub fn issue(&self, calls: &[Call]) -> Result<()> {
        for call in calls {
            let launched = self.0.driver.launch(call.function, call.shape, &call.params, self.0.compute);
            launched.map_err(|f| Error::Launch {
                kernel: call.kernel.clone(),
                grid: call.shape.grid,
                block: call.shape.block,
                shared: call.shape.shared,
                found: sentence(&f),
            })?;
        }
        Ok(())
    }
    /// Captures launches as a graph. The memory they use must outlive it.
    pub fn capture(&self, calls: &[Call]) -> Result<Replay> {
        let driver = &self.0.driver;
        self.check("beginning a capture", driver.capture_begin(self.0.compute))?;
        let issued = self.issue(calls);
        let graph = self.check("ending a capture", driver.capture_end(self.0.compute));
        issued?;
        Ok(Replay { graph: graph?, device: self.clone() })
    }
    /// Runs captured launches.
    pub fn replay(&self, replay: &Replay) -> Result<()> {
        self.check("launching a graph", self.0.driver.graph_launch(replay.graph, self.0.compute))
    }
}

/// A failure in one line.
fn sentence(f: &Failure) -> String {
    let Failure { call, code, log } = f;
    if log.is_empty() { format!("{call}: {code}") } else { format!("{call}: {code}: {log}") }
}

fn driver_error(device: &str, action: &str, f: Failure) -> Error {
    Error::Driver { device: device.into(), action: action.into(), found: sentence(&f) }
}

// What fails while something is given back can only be ignored: the device is gone or going.

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = self.device.0.driver.free(self.address);
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let _ = self.device.0.driver.graph_destroy(self.graph);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = self.driver.stream_synchronize(self.compute);
        for (_, address) in lock(&self.tensors).values() {
            let _ = self.driver.free(*address);
        }
        let staging = lock(&self.staging);
        for address in staging.buffers.into_iter().chain([staging.back]) {
            let _ = self.driver.pinned_free(address);
        }
        for event in staging.sent.into_iter().chain([staging.computed]) {
            let _ = self.driver.event_destroy(event);
        }
        for stream in [self.compute, self.copies] {
            let _ = self.driver.stream_destroy(stream);
        }
    }
}
