//! The real driver, loaded when it is opened.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUfunction_attribute as FunctionAttribute};

use super::functions::{Code, Functions};
use super::{Event, Failure, Function, FunctionProperties, Graph, Module, Properties, Result, Shape, Stream};

/// The driver with one device opened: holds a reference to the device's primary context.
#[derive(Debug)]
pub struct Nvidia {
    functions: Functions,
    device: i32,
    context: u64,
    pinned: Mutex<BTreeMap<u64, usize>>,
}

/// Fails where a function of the driver returned an error.
fn check(functions: &Functions, call: &'static str, code: Code) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    Err(Failure { call, code: functions.describe(code), log: String::new() })
}

/// Calls a function of the driver; its name goes into the failure.
macro_rules! call {
    ($functions:expr, $name:ident($($arg:expr),* $(,)?)) => {
        check(&$functions, stringify!($name), ($functions.$name)($($arg),*))
    };
}

impl Nvidia {
    /// Opens device `ordinal`. Fails where no driver is installed, where it is older than CUDA 11.4,
    /// and where it has no such device.
    /// The driver's functions, initialised, and the number of its devices.
    fn load() -> Result<(Functions, usize)> {
        let fail = |call, code: &str| Failure { call, code: code.into(), log: String::new() };
        // SAFETY: only opens the library by its usual names; its initialisers are NVIDIA's.
        if !unsafe { sys::is_culib_present() } {
            return Err(fail("dlopen", "no NVIDIA driver is installed (libcuda was not found)"));
        }
        // SAFETY: the library is present and has the driver's name.
        let functions = unsafe { Functions::load() }.map_err(|name| {
            let code = format!("the NVIDIA driver is too old: it has no {name}; a driver of CUDA 11.4 or newer is needed");
            fail("dlsym", &code)
        })?;
        let mut count = 0;
        // SAFETY: the out-pointer is to a live local of the type that the driver writes.
        unsafe {
            call!(functions, cuInit(0))?;
            call!(functions, cuDeviceGetCount(&mut count))?;
        }
        Ok((functions, count as usize))
    }
    /// Number of devices.
    pub fn count() -> Result<usize> {
        Self::load().map(|(_, count)| count)
    }
    /// Opens a device by its number.
    pub fn open(ordinal: usize) -> Result<Self> {
        let (functions, count) = Self::load()?;
        if ordinal >= count {
            let code = format!("device {ordinal} was asked for, the driver has {count}");
            return Err(Failure { call: "cuDeviceGet", code, log: String::new() });
        }
        let (mut device, mut context) = (0, ptr::null_mut());
        // SAFETY: out-pointers are to live locals of the types that the driver writes.
        unsafe {
            call!(functions, cuDeviceGet(&mut device, ordinal as i32))?;
            call!(functions, cuDevicePrimaryCtxRetain(&mut context, device))?;
        }
        Ok(Self { functions, device, context: context as u64, pinned: Mutex::default() })
    }

    /// Makes the context that of the calling thread, as every call below needs.
    fn bind(&self) -> Result<()> {
        // SAFETY: the context was retained by `open` and is released only in `drop`.
        unsafe { call!(self.functions, cuCtxSetCurrent(self.context as sys::CUcontext)) }
    }

    fn attribute(&self, attribute: Attribute) -> Result<u32> {
        let mut value = 0;
        // SAFETY: `value` is a live i32.
        unsafe { call!(self.functions, cuDeviceGetAttribute(&mut value, attribute, self.device))? };
        Ok(value as u32)
    }

    pub fn properties(&self) -> Result<Properties> {
        let (mut name, mut version) = ([0 as c_char; 256], 0);
        // SAFETY: the driver writes at most 256 bytes, ending in zero.
        let name = unsafe {
            call!(self.functions, cuDeviceGetName(name.as_mut_ptr(), 256, self.device))?;
            call!(self.functions, cuDriverGetVersion(&mut version))?;
            CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned()
        };
        let capability = (
            self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        Ok(Properties {
            name,
            capability,
            multiprocessors: self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_per_block: self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            l2_bytes: self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?.into(),
            version: format!("{}.{}", version / 1000, version % 1000 / 10),
        })
    }

    pub fn memory(&self) -> Result<(u64, u64)> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are live.
        unsafe { call!(self.functions, cuMemGetInfo_v2(&mut free, &mut total))? };
        Ok((free as u64, total as u64))
    }

    pub fn alloc(&self, bytes: u64) -> Result<u64> {
        self.bind()?;
        let mut address = 0;
        // SAFETY: `address` is live. The driver refuses a length of zero.
        unsafe { call!(self.functions, cuMemAlloc_v2(&mut address, bytes.max(1) as usize))? };
        Ok(address)
    }

    pub fn free(&self, address: u64) -> Result<()> {
        self.bind()?;
        // SAFETY: the driver checks the address; it waits for work that uses it.
        unsafe { call!(self.functions, cuMemFree_v2(address)) }
    }

    pub fn pinned_alloc(&self, bytes: usize, upload: bool) -> Result<u64> {
        self.bind()?;
        let mut address = ptr::null_mut();
        // Write-combined memory is the faster to send and very slow to read.
        let flags = if upload { sys::CU_MEMHOSTALLOC_WRITECOMBINED } else { 0 };
        // SAFETY: `address` is live.
        unsafe { call!(self.functions, cuMemHostAlloc(&mut address, bytes.max(1), flags))? };
        self.pinned().insert(address as u64, bytes);
        Ok(address as u64)
    }

    pub fn pinned_free(&self, address: u64) -> Result<()> {
        self.bind()?;
        self.pinned().remove(&address);
        // SAFETY: the driver checks that the address is one it gave.
        unsafe { call!(self.functions, cuMemFreeHost(address as *mut c_void)) }
    }

    pub fn pinned_write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        self.check_pinned(to, bytes.len())?;
        // SAFETY: the range lies in one live page-locked allocation, which no slice refers to; that no
        // stream reads it now is the contract of the seam.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    pub fn pinned_read(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        self.check_pinned(from, bytes.len())?;
        // SAFETY: as for `pinned_write`.
        unsafe { ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// The page-locked allocations: bytes by address.
    fn pinned(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a range that is not inside one page-locked allocation.
    fn check_pinned(&self, from: u64, bytes: usize) -> Result<()> {
        let pinned = self.pinned();
        let inside = pinned
            .range(..=from)
            .next_back()
            .is_some_and(|(at, len)| from - at <= *len as u64 && bytes as u64 <= *len as u64 - (from - at));
        if inside {
            return Ok(());
        }
        Err(Failure { call: "pinned memory", code: "a range that was not allocated".into(), log: String::new() })
    }

    pub fn copy_to_device(&self, to: u64, from: u64, bytes: usize, stream: Stream) -> Result<()> {
        self.bind()?;
        self.check_pinned(from, bytes)?;
        // SAFETY: the range is page-locked memory, which lives until the stream has passed (the contract
        // of the seam); device addresses are checked by the driver.
        unsafe { call!(self.functions, cuMemcpyHtoDAsync_v2(to, from as *const c_void, bytes, stream.0 as sys::CUstream)) }
    }

    pub fn copy_to_host(&self, to: u64, from: u64, bytes: usize, stream: Stream) -> Result<()> {
        self.bind()?;
        self.check_pinned(to, bytes)?;
        // SAFETY: as for `copy_to_device`.
        unsafe { call!(self.functions, cuMemcpyDtoHAsync_v2(to as *mut c_void, from, bytes, stream.0 as sys::CUstream)) }
    }

    pub fn copy_on_device(&self, to: u64, from: u64, bytes: usize, stream: Stream) -> Result<()> {
        self.bind()?;
        // SAFETY: device addresses are checked by the driver.
        unsafe { call!(self.functions, cuMemcpyDtoDAsync_v2(to, from, bytes, stream.0 as sys::CUstream)) }
    }

    pub fn fill(&self, to: u64, byte: u8, bytes: usize, stream: Stream) -> Result<()> {
        self.bind()?;
        // SAFETY: device addresses are checked by the driver.
        unsafe { call!(self.functions, cuMemsetD8Async(to, byte, bytes, stream.0 as sys::CUstream)) }
    }

    pub fn module_load(&self, text: &str) -> Result<Module> {
        use sys::CUjit_option as Jit;
        self.bind()?;
        let image = CString::new(text).unwrap_or_default();
        let mut log = vec![0u8; 16 << 10];
        let mut module = ptr::null_mut();
        let mut options = [Jit::CU_JIT_ERROR_LOG_BUFFER, Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut(log.len())];
        // SAFETY: `image` ends in zero and lives through the call, as do the log and both option arrays,
        // which are of the length given; an option's value is a pointer or, for the size, the number itself.
        let loaded = unsafe {
            let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
            call!(self.functions, cuModuleLoadDataEx(&mut module, image.as_ptr().cast(), 2, options, values))
        };
        // A log that fills the buffer may come without its zero.
        let written = log.split(|byte| *byte == 0).next().unwrap_or_default();
        loaded.map_err(|f| Failure { log: String::from_utf8_lossy(written).into_owned(), ..f })?;
        Ok(Module(module as u64))
    }

    pub fn module_unload(&self, module: Module) -> Result<()> {
        self.bind()?;
        // SAFETY: the handle came from `module_load`.
        unsafe { call!(self.functions, cuModuleUnload(module.0 as sys::CUmodule)) }
    }

    pub fn function(&self, module: Module, name: &str) -> Result<Function> {
        self.bind()?;
        let name = CString::new(name).unwrap_or_default();
        let mut function = ptr::null_mut();
        // SAFETY: the handle came from `module_load`; the name ends in zero.
        unsafe { call!(self.functions, cuModuleGetFunction(&mut function, module.0 as sys::CUmodule, name.as_ptr()))? };
        Ok(Function(function as u64))
    }

    pub fn function_properties(&self, function: Function) -> Result<FunctionProperties> {
        self.bind()?;
        let get = |attribute: FunctionAttribute| {
            let mut value = 0;
            // SAFETY: the handle came from `function`; `value` is live.
            unsafe { call!(self.functions, cuFuncGetAttribute(&mut value, attribute, function.0 as sys::CUfunction))? };
            Ok(value as u32)
        };
        Ok(FunctionProperties {
            registers: get(FunctionAttribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            static_shared: get(FunctionAttribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            local: get(FunctionAttribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            max_threads: get(FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        })
    }

    pub fn allow_shared(&self, function: Function, bytes: u32) -> Result<()> {
        self.bind()?;
        let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the handle came from `function`; the driver checks the size.
        unsafe { call!(self.functions, cuFuncSetAttribute(function.0 as sys::CUfunction, attribute, bytes as i32)) }
    }

    pub fn launch(&self, function: Function, shape: Shape, params: &[u8], stream: Stream) -> Result<()> {
        self.bind()?;
        let ([x, y, z], [bx, by, bz]) = (shape.grid, shape.block);
        // Parameter blocks hold 64-bit addresses; the driver reads the block with its own alignment.
        let block: Vec<u64> = params.chunks(8).map(|c| c.iter().rev().fold(0, |word, &b| word << 8 | u64::from(b))).collect();
        let mut pointers = [block.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the kernel has one parameter of `params.size` bytes (tests compare every kernel's text
        // with its parameter block), which the driver copies before it returns; addresses inside it
        // point into an arena that outlives the launch and into weights that its `Call` holds, and the
        // kernels stay in their bounds.
        unsafe {
            call!(
                self.functions,
                cuLaunchKernel(
                    function.0 as sys::CUfunction,
                    x,
                    y,
                    z,
                    bx,
                    by,
                    bz,
                    shape.shared,
                    stream.0 as sys::CUstream,
                    pointers.as_mut_ptr(),
                    ptr::null_mut(),
                )
            )
        }
    }

    pub fn stream_create(&self) -> Result<Stream> {
        self.bind()?;
        let mut stream = ptr::null_mut();
        // SAFETY: `stream` is live.
        unsafe { call!(self.functions, cuStreamCreate(&mut stream, sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32))? };
        Ok(Stream(stream as u64))
    }

    pub fn stream_destroy(&self, stream: Stream) -> Result<()> {
        self.bind()?;
        // SAFETY: the handle came from `stream_create`.
        unsafe { call!(self.functions, cuStreamDestroy_v2(stream.0 as sys::CUstream)) }
    }

    pub fn stream_synchronize(&self, stream: Stream) -> Result<()> {
        self.bind()?;
        // SAFETY: the handle came from `stream_create`.
        unsafe { call!(self.functions, cuStreamSynchronize(stream.0 as sys::CUstream)) }
    }

    pub fn stream_wait(&self, stream: Stream, event: Event) -> Result<()> {
        self.bind()?;
        // SAFETY: both handles came from this driver.
        unsafe { call!(self.functions, cuStreamWaitEvent(stream.0 as sys::CUstream, event.0 as sys::CUevent, 0)) }
    }

    pub fn event_create(&self, timing: bool) -> Result<Event> {
        self.bind()?;
        let mut event = ptr::null_mut();
        let flags = if timing { 0 } else { sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32 };
        // SAFETY: `event` is live.
        unsafe { call!(self.functions, cuEventCreate(&mut event, flags))? };
        Ok(Event(event as u64))
    }

    pub fn event_destroy(&self, event: Event) -> Result<()> {
        self.bind()?;
        // SAFETY: the handle came from `event_create`.
        unsafe { call!(self.functions, cuEventDestroy_v2(event.0 as sys::CUevent)) }
    }

    pub fn event_record(&self, event: Event, stream: Stream) -> Result<()> {
        self.bind()?;
        // SAFETY: both handles came from this driver.
        unsafe { call!(self.functions, cuEventRecord(event.0 as sys::CUevent, stream.0 as sys::CUstream)) }
    }

    pub fn event_synchronize(&self, event: Event) -> Result<()> {
        self.bind()?;
        // SAFETY: the handle came from `event_create`.
        unsafe { call!(self.functions, cuEventSynchronize(event.0 as sys::CUevent)) }
    }

    pub fn event_elapsed(&self, from: Event, to: Event) -> Result<f32> {
        self.bind()?;
        let mut milliseconds = 0.0;
        // SAFETY: both handles came from `event_create`.
        unsafe { call!(self.functions, cuEventElapsedTime(&mut milliseconds, from.0 as sys::CUevent, to.0 as sys::CUevent))? };
        Ok(milliseconds)
    }

    pub fn capture_begin(&self, stream: Stream) -> Result<()> {
        self.bind()?;
        // Relaxed: other threads may allocate and synchronise on streams of their own meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the handle came from `stream_create`.
        unsafe { call!(self.functions, cuStreamBeginCapture_v2(stream.0 as sys::CUstream, mode)) }
    }

    pub fn capture_end(&self, stream: Stream) -> Result<Graph> {
        self.bind()?;
        let (mut graph, mut executable) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the stream is capturing; the template graph is destroyed once it is instantiated.
        unsafe {
            call!(self.functions, cuStreamEndCapture(stream.0 as sys::CUstream, &mut graph))?;
            let made = call!(self.functions, cuGraphInstantiateWithFlags(&mut executable, graph, 0));
            call!(self.functions, cuGraphDestroy(graph))?;
            made?;
        }
        Ok(Graph(executable as u64))
    }

    pub fn graph_launch(&self, graph: Graph, stream: Stream) -> Result<()> {
        self.bind()?;
        // SAFETY: the handle came from `capture_end`.
        unsafe { call!(self.functions, cuGraphLaunch(graph.0 as sys::CUgraphExec, stream.0 as sys::CUstream)) }
    }

    pub fn graph_destroy(&self, graph: Graph) -> Result<()> {
        self.bind()?;
        // SAFETY: the handle came from `capture_end`.
        unsafe { call!(self.functions, cuGraphExecDestroy(graph.0 as sys::CUgraphExec)) }
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`. A failure here has nobody left to hear it.
        let _ = unsafe { (self.functions.cuDevicePrimaryCtxRelease_v2)(self.device) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_driver_is_told_so() {
        // SAFETY: only opens the library.
        if unsafe { sys::is_culib_present() } {
            println!("skipped: cuda no-driver test: this machine has a driver");
            return;
        }
        let failure = Nvidia::open(0).unwrap_err();
        assert!(failure.code.contains("no NVIDIA driver is installed"), "{failure:?}");
    }
}
