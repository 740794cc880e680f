//! The PTX interpreter behind the seam: device memory, launches and streams without a GPU.
//!
//! Streams keep their work until something waits for it ([`Completion::Late`]) or do it at once
//! ([`Completion::Early`]), so host code that forgets a wait reads unwritten memory here instead of
//! being lucky. A graph is the list of what was captured.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ptxvm::{Completion, Launch, Machine, Options, Statistics};

use super::{Event, Failure, Function, FunctionProperties, Graph, Module, Properties, Result, Shape, Stream};

/// A GPU played by the interpreter.
pub struct Interpreter {
    state: Mutex<State>,
}

/// Work of a stream.
#[derive(Clone, Debug)]
enum Work {
    ToDevice {
        to: u64,
        from: u64,
        bytes: usize,
    },
    ToHost {
        to: u64,
        from: u64,
        bytes: usize,
    },
    OnDevice {
        to: u64,
        from: u64,
        bytes: usize,
    },
    Fill {
        to: u64,
        byte: u8,
        bytes: usize,
    },
    Launch {
        kernel: Arc<ptxvm::Kernel>,
        shape: Shape,
        params: Vec<u8>,
    },
    Record(u64),
    /// Waits until the event has passed its `n`-th record.
    Wait(u64, u64),
    Graph(Arc<Vec<Work>>),
}

#[derive(Debug, Default)]
struct Queue {
    work: VecDeque<Work>,
    /// What was written down since the capture began.
    capture: Option<Vec<Work>>,
}

/// How often an event was recorded and how many of these records its streams have passed.
#[derive(Debug, Default)]
struct Marks {
    recorded: u64,
    passed: u64,
    stream: u64,
}

struct State {
    machine: Machine,
    late: bool,
    next: u64,
    modules: HashMap<u64, Arc<ptxvm::Module>>,
    functions: HashMap<u64, Arc<ptxvm::Kernel>>,
    queues: HashMap<u64, Queue>,
    events: HashMap<u64, Marks>,
    graphs: HashMap<u64, Arc<Vec<Work>>>,
    pinned: BTreeMap<u64, Vec<u8>>,
    next_pinned: u64,
    statistics: Statistics,
    /// The fault that ended the device: as on a GPU, every later call fails with it.
    lost: Option<Failure>,
}

impl std::fmt::Debug for Interpreter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interpreter").finish_non_exhaustive()
    }
}

fn failure(call: &'static str, code: impl Into<String>) -> Failure {
    Failure { call, code: code.into(), log: String::new() }
}

impl Interpreter {
    /// A machine of its own with these options.
    pub fn new(options: Options) -> Self {
        let late = matches!(options.completion, Completion::Late);
        Self {
            state: Mutex::new(State {
                machine: Machine::new(options),
                late,
                next: 1,
                modules: HashMap::new(),
                functions: HashMap::new(),
                queues: HashMap::new(),
                events: HashMap::new(),
                graphs: HashMap::new(),
                pinned: BTreeMap::new(),
                next_pinned: 1 << 40,
                statistics: Statistics::default(),
                lost: None,
            }),
        }
    }
    /// What all launches so far have counted.
    pub fn statistics(&self) -> Statistics {
        self.state().statistics.clone()
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn properties(&self) -> Result<Properties> {
        let state = self.state();
        let options = state.machine.options();
        Ok(Properties {
            name: "PTX interpreter".into(),
            capability: options.capability,
            multiprocessors: 1,
            shared_per_block: options.shared_per_block,
            l2_bytes: 0,
            version: "7.0".into(),
        })
    }
    pub fn memory(&self) -> Result<(u64, u64)> {
        Ok(self.state().machine.memory())
    }
    pub fn alloc(&self, bytes: u64) -> Result<u64> {
        let mut state = self.state();
        state.alive()?;
        state.machine.alloc(bytes.max(1)).map_err(|e| failure("alloc", e.to_string()))
    }
    pub fn free(&self, address: u64) -> Result<()> {
        let mut state = self.state();
        state.drain_all()?;
        state.machine.free(address).map_err(|e| failure("free", e.to_string()))
    }
    pub fn pinned_alloc(&self, bytes: usize, _upload: bool) -> Result<u64> {
        let mut state = self.state();
        // Addresses of an invented space: blocks keep their distance, so that a range beyond one is in none.
        let address = state.next_pinned;
        state.next_pinned += (bytes as u64).next_multiple_of(4096) + 4096;
        state.pinned.insert(address, vec![u8::MAX; bytes]);
        Ok(address)
    }
    pub fn pinned_free(&self, address: u64) -> Result<()> {
        let mut state = self.state();
        state.drain_all()?;
        state.pinned.remove(&address).map(drop).ok_or_else(|| failure("pinned_free", "an address that was not allocated"))
    }
    pub fn pinned_write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        self.state().host(to, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }
    pub fn pinned_read(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        bytes.copy_from_slice(self.state().host(from, bytes.len())?);
        Ok(())
    }
    pub fn copy_to_device(&self, to: u64, from: u64, bytes: usize, stream: Stream) -> Result<()> {
        self.state().push(stream, Work::ToDevice { to, from, bytes })
    }
    pub fn copy_to_host(&self, to: u64, from: u64, bytes: usize, stream: Stream) -> Result<()> {
        self.state().push(stream, Work::ToHost { to, from, bytes })
    }
    pub fn copy_on_device(&self, to: u64, from: u64, bytes: usize, stream: Stream) -> Result<()> {
        self.state().push(stream, Work::OnDevice { to, from, bytes })
    }
    pub fn fill(&self, to: u64, byte: u8, bytes: usize, stream: Stream) -> Result<()> {
        self.state().push(stream, Work::Fill { to, byte, bytes })
    }
    pub fn module_load(&self, text: &str) -> Result<Module> {
        let module = ptxvm::Module::parse(text).map_err(|e| Failure {
            call: "module_load",
            code: "the text is not understood".into(),
            log: e.to_string(),
        })?;
        let mut state = self.state();
        let id = state.id();
        state.modules.insert(id, Arc::new(module));
        Ok(Module(id))
    }
    pub fn module_unload(&self, module: Module) -> Result<()> {
        let mut state = self.state();
        state.drain_all()?;
        state.modules.remove(&module.0);
        Ok(())
    }
    pub fn function(&self, module: Module, name: &str) -> Result<Function> {
        let mut state = self.state();
        let kernel = state.modules.get(&module.0).and_then(|m| m.kernel(name));
        let kernel = kernel.ok_or_else(|| failure("function", format!("the module has no entry '{name}'")))?;
        let id = state.id();
        state.functions.insert(id, kernel);
        Ok(Function(id))
    }
    pub fn function_properties(&self, function: Function) -> Result<FunctionProperties> {
        let kernel = self.state().kernel(function)?;
        let max_threads = kernel.max_threads();
        Ok(FunctionProperties { registers: 0, static_shared: kernel.static_shared(), local: 0, max_threads })
    }
    pub fn allow_shared(&self, function: Function, bytes: u32) -> Result<()> {
        let state = self.state();
        state.kernel(function)?;
        let most = state.machine.options().shared_per_block;
        if bytes > most {
            return Err(failure("allow_shared", format!("{bytes} bytes of shared memory; the device has {most}")));
        }
        Ok(())
    }
    pub fn launch(&self, function: Function, shape: Shape, params: &[u8], stream: Stream) -> Result<()> {
        let mut state = self.state();
        let kernel = state.kernel(function)?;
        state.push(stream, Work::Launch { kernel, shape, params: params.into() })
    }
    pub fn stream_create(&self) -> Result<Stream> {
        let mut state = self.state();
        let id = state.id();
        state.queues.insert(id, Queue::default());
        Ok(Stream(id))
    }
    pub fn stream_destroy(&self, stream: Stream) -> Result<()> {
        let mut state = self.state();
        state.drain(stream.0)?;
        state.queues.remove(&stream.0);
        Ok(())
    }
    pub fn stream_synchronize(&self, stream: Stream) -> Result<()> {
        let mut state = self.state();
        state.outside_capture("stream_synchronize", stream.0)?;
        state.drain(stream.0)
    }
    pub fn stream_wait(&self, stream: Stream, event: Event) -> Result<()> {
        let mut state = self.state();
        let recorded = state.marks(event.0)?.recorded;
        state.push(stream, Work::Wait(event.0, recorded))
    }
    pub fn event_create(&self, _timing: bool) -> Result<Event> {
        let mut state = self.state();
        let id = state.id();
        state.events.insert(id, Marks::default());
        Ok(Event(id))
    }
    pub fn event_destroy(&self, event: Event) -> Result<()> {
        let mut state = self.state();
        state.drain_all()?;
        state.events.remove(&event.0);
        Ok(())
    }
    pub fn event_record(&self, event: Event, stream: Stream) -> Result<()> {
        let mut state = self.state();
        let marks = state.marks(event.0)?;
        marks.recorded += 1;
        marks.stream = stream.0;
        state.push(stream, Work::Record(event.0))
    }
    pub fn event_synchronize(&self, event: Event) -> Result<()> {
        let mut state = self.state();
        let marks = state.marks(event.0)?;
        let (recorded, stream) = (marks.recorded, marks.stream);
        if recorded == 0 {
            return Ok(());
        }
        state.outside_capture("event_synchronize", stream)?;
        state.reach(event.0, recorded)
    }
    /// Nothing is timed here.
    pub fn event_elapsed(&self, _from: Event, _to: Event) -> Result<f32> {
        Err(failure("event_elapsed", "the interpreter measures no times"))
    }
    pub fn capture_begin(&self, stream: Stream) -> Result<()> {
        self.state().queue(stream.0)?.capture = Some(Vec::new());
        Ok(())
    }
    pub fn capture_end(&self, stream: Stream) -> Result<Graph> {
        let mut state = self.state();
        let work = state.queue(stream.0)?.capture.take();
        let work = work.ok_or_else(|| failure("capture_end", "a stream that captures nothing"))?;
        let id = state.id();
        state.graphs.insert(id, Arc::new(work));
        Ok(Graph(id))
    }
    pub fn graph_launch(&self, graph: Graph, stream: Stream) -> Result<()> {
        let mut state = self.state();
        let work = state.graphs.get(&graph.0).cloned().ok_or_else(|| failure("graph_launch", "a graph that is not there"))?;
        state.push(stream, Work::Graph(work))
    }
    pub fn graph_destroy(&self, graph: Graph) -> Result<()> {
        let mut state = self.state();
        state.drain_all()?;
        state.graphs.remove(&graph.0);
        Ok(())
    }
}

impl State {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
    fn kernel(&self, function: Function) -> Result<Arc<ptxvm::Kernel>> {
        self.functions.get(&function.0).cloned().ok_or_else(|| failure("function", "a function that is not there"))
    }
    fn queue(&mut self, stream: u64) -> Result<&mut Queue> {
        self.queues.get_mut(&stream).ok_or_else(|| failure("stream", "a stream that is not there"))
    }
    fn marks(&mut self, event: u64) -> Result<&mut Marks> {
        self.events.get_mut(&event).ok_or_else(|| failure("event", "an event that is not there"))
    }
    /// What the real driver refuses while the stream captures.
    fn outside_capture(&mut self, call: &'static str, stream: u64) -> Result<()> {
        if self.queue(stream)?.capture.is_some() {
            return Err(failure(call, "not allowed while a stream captures"));
        }
        Ok(())
    }
    fn alive(&self) -> Result<()> {
        self.lost.clone().map_or(Ok(()), Err)
    }
    fn push(&mut self, stream: Stream, work: Work) -> Result<()> {
        self.alive()?;
        let late = self.late;
        let queue = self.queue(stream.0)?;
        if let Some(capture) = &mut queue.capture {
            if matches!(work, Work::Record(_) | Work::Wait(..) | Work::Graph(_)) {
                return Err(failure("capture", "events and graphs inside a captured graph are not supported"));
            }
            capture.push(work);
            return Ok(());
        }
        queue.work.push_back(work);
        if late { Ok(()) } else { self.drain(stream.0) }
    }
    /// Does all work of a stream.
    fn drain(&mut self, stream: u64) -> Result<()> {
        self.alive()?;
        while let Some(work) = self.queue(stream)?.work.pop_front() {
            self.run(&work)?;
        }
        Ok(())
    }
    fn drain_all(&mut self) -> Result<()> {
        let streams: Vec<u64> = self.queues.keys().copied().collect();
        streams.into_iter().try_for_each(|s| self.drain(s))
    }
    /// Works on the stream of an event until it has passed its `n`-th record.
    fn reach(&mut self, event: u64, n: u64) -> Result<()> {
        while self.marks(event)?.passed < n {
            let stream = self.marks(event)?.stream;
            let work = self.queue(stream)?.work.pop_front();
            let work = work.ok_or_else(|| failure("event", "an event that its stream does not reach"))?;
            self.run(&work)?;
        }
        Ok(())
    }
    fn run(&mut self, work: &Work) -> Result<()> {
        let memory = |e: ptxvm::MemoryError| failure("copy", e.to_string());
        match work {
            Work::ToDevice { to, from, bytes } => {
                let host = self.host(*from, *bytes)?.to_vec();
                self.machine.write(*to, &host).map_err(memory)
            }
            Work::ToHost { to, from, bytes } => {
                let mut data = vec![0; *bytes];
                self.machine.read(*from, &mut data).map_err(memory)?;
                self.host(*to, *bytes)?.copy_from_slice(&data);
                Ok(())
            }
            Work::OnDevice { to, from, bytes } => self.machine.copy(*to, *from, *bytes as u64).map_err(memory),
            Work::Fill { to, byte, bytes } => self.machine.fill(*to, *byte, *bytes as u64).map_err(memory),
            Work::Launch { kernel, shape, params } => {
                let launch = Launch { grid: shape.grid, block: shape.block, dynamic_shared: shape.shared, params };
                let fault = |f: ptxvm::Fault| Failure { call: "launch", code: "the kernel faults".into(), log: f.to_string() };
                match self.machine.launch(kernel, &launch).map_err(fault) {
                    Ok(statistics) => self.statistics += statistics,
                    Err(fault) => self.lost = Some(fault),
                }
                self.alive()
            }
            Work::Record(event) => {
                self.marks(*event)?.passed += 1;
                Ok(())
            }
            Work::Wait(event, n) => self.reach(*event, *n),
            Work::Graph(all) => all.iter().try_for_each(|work| self.run(work)),
        }
    }
    /// The page-locked memory `from .. from + bytes`.
    fn host(&mut self, from: u64, bytes: usize) -> Result<&mut [u8]> {
        let block = self.pinned.range_mut(..=from).next_back();
        let range = block.and_then(|(at, block)| block.get_mut((from - at) as usize..)?.get_mut(..bytes));
        range.ok_or_else(|| failure("pinned memory", "a range that was not allocated"))
    }
}
