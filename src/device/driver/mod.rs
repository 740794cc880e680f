//! The CUDA seam: the driver's functions that the engine needs, on plain handles, behind an enum of
//! the real driver and the PTX interpreter.
//!
//! Nothing above this module names a type of cudarc or of the interpreter. Handles are u64 values
//! that only the driver that made them can read. Calls on streams are asynchronous: host memory
//! handed to them is [page-locked](Driver::pinned_alloc) and is left alone until the stream has passed
//! the call.

mod functions;
#[cfg(feature = "ptxvm")]
mod interpreter;
mod nvidia;

#[cfg(feature = "ptxvm")]
pub use interpreter::Interpreter;
pub use nvidia::Nvidia;

/// A failure of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The driver's function.
    pub call: &'static str,
    /// The code and what it means: `CUDA_ERROR_OUT_OF_MEMORY (out of memory)`.
    pub code: String,
    /// The log of the compiler or the report of the interpreter, of any number of lines; empty where
    /// there is none.
    pub log: String,
}

/// Result of a driver call.
pub type Result<T> = std::result::Result<T, Failure>;

/// A loaded module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module(u64);
/// An entry of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function(u64);
/// A queue of work that runs in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(u64);
/// A point in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(u64);
/// A captured, replayable piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graph(u64);

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    pub multiprocessors: u32,
    /// Bytes of shared memory that a CTA may opt in to.
    pub shared_per_block: u32,
    /// Bytes of the second-level cache.
    pub l2_bytes: u64,
    /// Version of the driver's interface, as `12.9`.
    pub version: String,
}

/// Resources of a function as compiled for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionProperties {
    /// Registers a thread; 0 where nothing was compiled (the interpreter).
    pub registers: u32,
    /// Bytes of static shared memory a CTA.
    pub static_shared: u32,
    /// Bytes of local memory a thread: spills.
    pub local: u32,
    pub max_threads: u32,
}

/// Grid and block of a launch, and its dynamic shared memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
}

/// A driver with one device opened. Methods may be called from any thread.
#[derive(Debug)]
pub enum Driver {
    Nvidia(Box<Nvidia>),
    #[cfg(feature = "ptxvm")]
    Interpreter(Box<Interpreter>),
}

/// What the interpreter counts in place of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Warp instructions.
    pub instructions: u64,
    /// Of those, `mma.sync`.
    pub matrix_products: u64,
    pub barriers: u64,
    /// Shared memory wavefronts beyond the fewest.
    pub bank_conflicts: u64,
    /// 32-byte sectors of global memory touched.
    pub sectors: u64,
    /// The fewest sectors that could have held the same bytes.
    pub sectors_least: u64,
}

impl std::ops::Sub for Counts {
    type Output = Counts;
    fn sub(self, before: Counts) -> Counts {
        Counts {
            instructions: self.instructions - before.instructions,
            matrix_products: self.matrix_products - before.matrix_products,
            barriers: self.barriers - before.barriers,
            bank_conflicts: self.bank_conflicts - before.bank_conflicts,
            sectors: self.sectors - before.sectors,
            sectors_least: self.sectors_least - before.sectors_least,
        }
    }
}

impl Driver {
    /// What all launches so far have counted; `None` where time is measured instead.
    pub fn counts(&self) -> Option<Counts> {
        match self {
            Driver::Nvidia(_) => None,
            #[cfg(feature = "ptxvm")]
            Driver::Interpreter(d) => {
                let s = d.statistics();
                let (matrix_products, bank_conflicts) = (s.matrix_products, s.bank_conflicts);
                let (sectors, sectors_least) = (s.sectors, s.sectors_least);
                Some(Counts {
                    instructions: s.instructions,
                    matrix_products,
                    barriers: s.barriers,
                    bank_conflicts,
                    sectors,
                    sectors_least,
                })
            }
        }
    }
}

macro_rules! forward {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        impl Driver {
            $($(#[$doc])*
            pub fn $name(&self, $($arg: $kind),*) -> Result<$out> {
                match self {
                    Driver::Nvidia(d) => d.$name($($arg),*),
                    #[cfg(feature = "ptxvm")]
                    Driver::Interpreter(d) => d.$name($($arg),*),
                }
            })*
        }
    };
}

forward! {
    /// The device's properties.
    fn properties() -> Properties;
    /// Free and total bytes of device memory.
    fn memory() -> (u64, u64);
    /// Allocates device memory, aligned to at least 256 bytes; its contents are undefined.
    fn alloc(bytes: u64) -> u64;
    /// Frees device memory.
    fn free(address: u64) -> ();
    /// Allocates page-locked host memory and gives its address. `upload` memory may be slow to read.
    fn pinned_alloc(bytes: usize, upload: bool) -> u64;
    /// Frees page-locked host memory.
    fn pinned_free(address: u64) -> ();
    /// Writes page-locked host memory; no stream may be reading it.
    fn pinned_write(to: u64, bytes: &[u8]) -> ();
    /// Reads page-locked host memory; no stream may be writing it.
    fn pinned_read(from: u64, bytes: &mut [u8]) -> ();
    /// Copies page-locked host memory to the device.
    fn copy_to_device(to: u64, from: u64, bytes: usize, stream: Stream) -> ();
    /// Copies device memory to page-locked host memory.
    fn copy_to_host(to: u64, from: u64, bytes: usize, stream: Stream) -> ();
    /// Copies within the device.
    fn copy_on_device(to: u64, from: u64, bytes: usize, stream: Stream) -> ();
    /// Sets every byte.
    fn fill(to: u64, byte: u8, bytes: usize, stream: Stream) -> ();
    /// Compiles a module; a failure carries the compiler's log.
    fn module_load(text: &str) -> Module;
    /// Unloads a module.
    fn module_unload(module: Module) -> ();
    /// The entry of that name.
    fn function(module: Module, name: &str) -> Function;
    /// What the compiled function takes.
    fn function_properties(function: Function) -> FunctionProperties;
    /// Allows a function that much dynamic shared memory.
    fn allow_shared(function: Function, bytes: u32) -> ();
    /// Launches a function with one parameter block, which is copied at once.
    fn launch(function: Function, shape: Shape, params: &[u8], stream: Stream) -> ();
    /// Makes a stream that does not wait for the default stream.
    fn stream_create() -> Stream;
    /// Destroys a stream.
    fn stream_destroy(stream: Stream) -> ();
    /// Waits until a stream has done all its work.
    fn stream_synchronize(stream: Stream) -> ();
    /// Makes later work of a stream wait for an event.
    fn stream_wait(stream: Stream, event: Event) -> ();
    /// Makes an event; `timing` events can be timed and cost more.
    fn event_create(timing: bool) -> Event;
    /// Destroys an event.
    fn event_destroy(event: Event) -> ();
    /// Marks the present end of a stream.
    fn event_record(event: Event, stream: Stream) -> ();
    /// Waits until the stream has passed the event; one that was never recorded is passed.
    fn event_synchronize(event: Event) -> ();
    /// Milliseconds between two timing events that are passed.
    fn event_elapsed(from: Event, to: Event) -> f32;
    /// From here on the stream's work is written down instead of done. Nothing may be allocated,
    /// freed or waited for until the end.
    fn capture_begin(stream: Stream) -> ();
    /// Ends a capture.
    fn capture_end(stream: Stream) -> Graph;
    /// Runs a captured graph on a stream.
    fn graph_launch(graph: Graph, stream: Stream) -> ();
    /// Destroys a graph.
    fn graph_destroy(graph: Graph) -> ();
}
