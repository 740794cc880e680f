//! A lane of a CUDA device: a stream for kernels, one for uploads, and page-locked staging between
//! the host and the device. One thread uses a lane at a time; lanes run side by side.

use super::{Call, Cuda, sentence};
use crate::device::driver::{self, Event, Graph, Stream};
use crate::error::{Error, Result};

/// Bytes of one staging buffer: enough for the rate of the bus, and little beside an arena.
const STAGING: usize = 4 << 20;

/// A queue of uploads, launches and read-backs that are done in this order.
#[derive(Debug)]
pub struct Lane {
    held: Held,
    /// Kernels and read-backs.
    compute: Stream,
    /// Uploads.
    copies: Stream,
    /// Two buffers that take turns: one is filled while the other travels.
    buffers: [u64; 2],
    /// Passed when a buffer's last copy has arrived.
    sent: [Event; 2],
    /// Passed when the kernels launched before an upload are done.
    computed: Event,
    turn: usize,
    /// Receives read-backs.
    back: u64,
}

/// What a lane was given by the driver, and gives back.
#[derive(Debug)]
struct Held {
    cuda: Cuda,
    streams: Vec<Stream>,
    pinned: Vec<u64>,
    events: Vec<Event>,
}

/// Launches that were captured and run as one.
#[derive(Debug)]
pub struct Replay {
    graph: Graph,
    cuda: Cuda,
}

impl Lane {
    /// Bytes of host memory that a lane takes.
    pub const HOST_BYTES: u64 = 3 * STAGING as u64;

    pub fn new(cuda: &Cuda) -> Result<Self> {
        let held = Held { cuda: cuda.clone(), streams: Vec::new(), pinned: Vec::new(), events: Vec::new() };
        cuda.check("making streams and staging memory", Self::over(held))
    }
    fn over(mut held: Held) -> driver::Result<Self> {
        Ok(Self {
            compute: held.stream()?,
            copies: held.stream()?,
            buffers: [held.pinned(true)?, held.pinned(true)?],
            sent: [held.event()?, held.event()?],
            computed: held.event()?,
            turn: 0,
            back: held.pinned(false)?,
            held,
        })
    }
    pub fn cuda(&self) -> &Cuda {
        &self.held.cuda
    }
    /// The stream of the kernels, for those that time it.
    pub fn stream(&self) -> Stream {
        self.compute
    }
    /// Copies bytes to the device, after the kernels launched so far and before those launched later.
    pub fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<()> {
        let sent = self.send(to, bytes);
        self.cuda().check(&format!("uploading {} bytes", bytes.len()), sent)
    }
    fn send(&mut self, to: u64, bytes: &[u8]) -> driver::Result<()> {
        let driver = self.held.cuda.driver();
        driver.event_record(self.computed, self.compute)?;
        driver.stream_wait(self.copies, self.computed)?;
        for (i, chunk) in bytes.chunks(STAGING).enumerate() {
            let (buffer, sent) = (self.buffers[self.turn], self.sent[self.turn]);
            self.turn = 1 - self.turn;
            driver.event_synchronize(sent)?;
            driver.pinned_write(buffer, chunk)?;
            driver.copy_to_device(to + (i * STAGING) as u64, buffer, chunk.len(), self.copies)?;
            driver.event_record(sent, self.copies)?;
            driver.stream_wait(self.compute, sent)?;
        }
        Ok(())
    }
    /// Copies bytes from the device once all kernels launched so far are done.
    pub fn download(&mut self, from: u64, bytes: &mut [u8]) -> Result<()> {
        let asked = bytes.len();
        let received = self.receive(from, bytes);
        self.cuda().check(&format!("reading back {asked} bytes"), received)
    }
    fn receive(&mut self, from: u64, bytes: &mut [u8]) -> driver::Result<()> {
        let driver = self.cuda().driver();
        for (i, chunk) in bytes.chunks_mut(STAGING).enumerate() {
            driver.copy_to_host(self.back, from + (i * STAGING) as u64, chunk.len(), self.compute)?;
            driver.stream_synchronize(self.compute)?;
            driver.pinned_read(self.back, chunk)?;
        }
        Ok(())
    }
    /// Sets bytes of the device, in the order of the launches.
    pub fn fill(&mut self, to: u64, byte: u8, bytes: usize) -> Result<()> {
        self.cuda().check(&format!("filling {bytes} bytes"), self.cuda().driver().fill(to, byte, bytes, self.compute))
    }
    /// Copies bytes within the device, in the order of the launches.
    pub fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.cuda().check(&format!("copying {bytes} bytes"), self.cuda().driver().copy_on_device(to, from, bytes, self.compute))
    }
    /// Waits for everything launched so far.
    pub fn synchronize(&mut self) -> Result<()> {
        self.cuda().check("waiting for the kernels", self.cuda().driver().stream_synchronize(self.compute))
    }
    /// Launches in this order.
    pub fn issue(&mut self, calls: &[Call]) -> Result<()> {
        for call in calls {
            let launched = self.cuda().driver().launch(call.function, call.shape, &call.params, self.compute);
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
    /// Captures launches as a graph. The memory they use must outlive its last replay.
    pub fn capture(&mut self, calls: &[Call]) -> Result<Replay> {
        self.cuda().check("beginning a capture", self.cuda().driver().capture_begin(self.compute))?;
        let issued = self.issue(calls);
        let graph = self.cuda().check("ending a capture", self.cuda().driver().capture_end(self.compute));
        let replay = graph.map(|graph| Replay { graph, cuda: self.cuda().clone() });
        issued?;
        replay
    }
    /// Runs captured launches.
    pub fn replay(&mut self, replay: &Replay) -> Result<()> {
        self.cuda().check("launching a graph", self.cuda().driver().graph_launch(replay.graph, self.compute))
    }
}

impl Held {
    fn stream(&mut self) -> driver::Result<Stream> {
        let stream = self.cuda.driver().stream_create()?;
        self.streams.push(stream);
        Ok(stream)
    }
    fn pinned(&mut self, upload: bool) -> driver::Result<u64> {
        let address = self.cuda.driver().pinned_alloc(STAGING, upload)?;
        self.pinned.push(address);
        Ok(address)
    }
    fn event(&mut self) -> driver::Result<Event> {
        let event = self.cuda.driver().event_create(false)?;
        self.events.push(event);
        Ok(event)
    }
}

// What fails while something is given back can only be ignored: the device is gone or going.

impl Drop for Replay {
    fn drop(&mut self) {
        let _ = self.cuda.driver().graph_destroy(self.graph);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let driver = self.cuda.driver();
        for stream in &self.streams {
            let _ = driver.stream_synchronize(*stream);
        }
        for address in &self.pinned {
            let _ = driver.pinned_free(*address);
        }
        for event in &self.events {
            let _ = driver.event_destroy(*event);
        }
        for stream in &self.streams {
            let _ = driver.stream_destroy(*stream);
        }
    }
}
