//! The CUDA backend above the seam: an opened device, its memory, its weights, and its kernels,
//! compiled when they are first used.

mod arena;
mod gpus;
mod lane;
mod stopwatch;

pub use arena::{CudaArena, Space};
pub use gpus::{Gpus, Selection};
pub use lane::{Lane, Replay};
pub use stopwatch::Stopwatch;

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::{Driver, Failure, Function, FunctionProperties, Module, Nvidia, Properties, Shape};
use super::tensor::Tensor;
use crate::error::{Error, Result};
use crate::kernel::tuning::Limits;
use crate::kernel::{Configuration, Kernel, Language};

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
    functions: Mutex<HashMap<String, (Module, Function)>>,
    alter: Option<Alter>,
    /// Weights and tables on the device by the address of their host copy, which is kept so that nothing else can
    /// take it.
    resident: Mutex<HashMap<usize, (Held, u64)>>,
}

/// Makes another text of that of a kernel, given its name.
type Change = dyn Fn(&str, &str) -> String + Send + Sync;

/// What becomes of the kernels' texts before they are compiled.
pub struct Alter(pub Box<Change>);

impl std::fmt::Debug for Alter {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Alter")
    }
}

/// Device memory that is freed when it is dropped.
#[derive(Debug)]
pub struct Memory {
    pub address: u64,
    pub bytes: u64,
    device: Cuda,
}

/// What lies on the device as well as on the host.
#[derive(Clone, Debug)]
pub enum Held {
    Tensor(Tensor),
    Other(Arc<dyn Any + Send + Sync>),
}

impl Held {
    fn key(&self) -> usize {
        match self {
            Held::Tensor(tensor) => tensor.key(),
            Held::Other(other) => Arc::as_ptr(other).cast::<u8>() as usize,
        }
    }
    fn is_shared(&self) -> bool {
        match self {
            Held::Tensor(tensor) => tensor.is_shared(),
            Held::Other(other) => Arc::strong_count(other) > 1,
        }
    }
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
    /// What the parameter block points to: as long as it is held, it stays on the device.
    pub held: Vec<Held>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cuda {
    /// Opens a device of the real driver by its number, or the interpreter, which has as many as are asked for.
    pub fn open(choice: DriverChoice, number: usize) -> Result<Self> {
        match choice {
            DriverChoice::Nvidia => {
                let nvidia = Nvidia::open(number).map_err(no_gpu)?;
                Self::over(Driver::Nvidia(Box::new(nvidia)), None)
            }
            #[cfg(feature = "ptxvm")]
            DriverChoice::Interpreter => Self::interpreter(ptxvm::Options::default()),
            #[cfg(not(feature = "ptxvm"))]
            DriverChoice::Interpreter => {
                Err(Error::flag("--driver", "interpreter, which this build lacks", "a build with the feature ptxvm"))
            }
        }
    }
    /// Number of devices that a driver has.
    pub fn count(choice: DriverChoice) -> Result<usize> {
        match choice {
            DriverChoice::Nvidia => Nvidia::count().map_err(no_gpu),
            DriverChoice::Interpreter => Ok(1),
        }
    }
    /// A device played by the PTX interpreter.
    #[cfg(feature = "ptxvm")]
    pub fn interpreter(options: ptxvm::Options) -> Result<Self> {
        Self::over(Driver::Interpreter(Box::new(super::driver::Interpreter::new(options))), None)
    }
    /// The same with kernels that `alter`, which is handed name and text, has changed: for tests that plant bugs.
    #[cfg(feature = "ptxvm")]
    pub fn altered(options: ptxvm::Options, alter: Alter) -> Result<Self> {
        Self::over(Driver::Interpreter(Box::new(super::driver::Interpreter::new(options))), Some(alter))
    }
    fn over(driver: Driver, alter: Option<Alter>) -> Result<Self> {
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
        Ok(Self(Arc::new(Shared { driver, properties, alter, functions: Mutex::default(), resident: Mutex::default() })))
    }
    pub fn properties(&self) -> &Properties {
        &self.0.properties
    }
    /// What the choice of a kernel's configuration looks at.
    pub fn limits(&self) -> Limits {
        let Properties { capability, multiprocessors, shared_per_block, .. } = self.0.properties;
        Limits { capability, multiprocessors, shared_per_block }
    }
    /// The seam, for those that time or count.
    pub fn driver(&self) -> &Driver {
        &self.0.driver
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
    pub(super) fn check<T>(&self, action: &str, result: super::driver::Result<T>) -> Result<T> {
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
        if let Some((_, function)) = functions.get(&key) {
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
        let text = self.0.alter.as_ref().map_or_else(|| text.clone(), |Alter(alter)| alter(kernel.name, &text));
        let driver = &self.0.driver;
        let compile = || {
            let module = driver.module_load(&text)?;
            let entry = driver.function(module, kernel.name).and_then(|function| {
                if configuration.shared > 48 << 10 {
                    driver.allow_shared(function, configuration.shared)?;
                }
                Ok((module, function))
            });
            entry.inspect_err(|_| {
                // The failure that is told is the first one.
                let _ = driver.module_unload(module);
            })
        };
        let entry = compile().map_err(|f: Failure| Error::Jit {
            kernel: key.clone(),
            device: self.describe(),
            code: f.code,
            log: if f.log.is_empty() { "no log".into() } else { one_line(&f.log) },
        })?;
        functions.insert(key, entry);
        Ok(entry.1)
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
        Ok(Call {
            kernel: format!("{}@{}", kernel.name, configuration.name),
            function,
            shape,
            params: params.bytes(),
            held: Vec::new(),
        })
    }
    /// The address of a weight on the device, uploaded through `lane` when it is first asked for. It
    /// stays as long as there is a clone of `tensor`.
    pub fn tensor(&self, tensor: &Tensor, lane: &mut Lane) -> Result<u64> {
        self.resident(Held::Tensor(tensor.clone()), || tensor.raw(), lane)
    }
    /// The address of what `bytes` gives, the same for every call with `owner`, as long as there is a clone of that.
    pub fn shared(&self, owner: Arc<dyn Any + Send + Sync>, bytes: impl FnOnce() -> Vec<u8>, lane: &mut Lane) -> Result<u64> {
        self.resident(Held::Other(owner), || Cow::Owned(bytes()), lane)
    }
    fn resident<'a>(&self, held: Held, bytes: impl FnOnce() -> Cow<'a, [u8]>, lane: &mut Lane) -> Result<u64> {
        let mut resident = lock(&self.0.resident);
        if let Some((_, address)) = resident.get(&held.key()) {
            return Ok(*address);
        }
        resident.retain(|_, (kept, address)| {
            let is_used = kept.is_shared();
            if !is_used {
                // The device is gone if this fails, and what comes next says so.
                let _ = self.0.driver.free(*address);
            }
            is_used
        });
        let data = bytes();
        let address = self.alloc_raw(data.len() as u64)?;
        let sent = lane.upload(address, &data).and_then(|()| lane.synchronize());
        sent.inspect_err(|_| {
            // The failure that is told is the first one.
            let _ = self.0.driver.free(address);
        })?;
        resident.insert(held.key(), (held, address));
        Ok(address)
    }
    /// Bytes of those of `tensors` that are not on the device yet.
    pub fn missing_bytes<'a>(&self, tensors: impl Iterator<Item = &'a Tensor>) -> u64 {
        let held = lock(&self.0.resident);
        let all = tensors.map(|t| (t.key(), t.raw_bytes()));
        let missing: HashMap<usize, u64> = all.filter(|(key, _)| !held.contains_key(key)).collect();
        missing.values().sum()
    }
}

/// The most lines of a log that an error quotes.
const LOG_LINES: usize = 4;

/// The first lines of a log as one.
fn one_line(log: &str) -> String {
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let first: Vec<&str> = lines.by_ref().take(LOG_LINES).collect();
    let more = match lines.count() {
        0 => String::new(),
        more => format!("; and {more} more lines"),
    };
    first.join("; ") + &more
}

/// A failure in one line.
fn sentence(f: &Failure) -> String {
    let Failure { call, code, log } = f;
    if log.is_empty() { format!("{call}: {code}") } else { format!("{call}: {code}: {}", one_line(log)) }
}

fn no_gpu(f: Failure) -> Error {
    Error::Backend {
        backend: "cuda",
        found: f.code,
        expected: "an NVIDIA GPU with its driver; --backend cpu or wgpu needs none".into(),
    }
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

impl Drop for Shared {
    fn drop(&mut self) {
        for (_, address) in lock(&self.resident).values() {
            let _ = self.driver.free(*address);
        }
        for (module, _) in lock(&self.functions).values() {
            let _ = self.driver.module_unload(*module);
        }
    }
}
