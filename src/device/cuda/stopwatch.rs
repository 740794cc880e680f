//! Times what a lane does with the device's own clock.

use super::{Cuda, Lane};
use crate::device::driver::Event;
use crate::error::Result;

/// Marks on a lane whose distances are times.
#[derive(Debug)]
pub struct Stopwatch {
    cuda: Cuda,
    events: Vec<Event>,
}

impl Stopwatch {
    /// For up to `laps` laps.
    pub fn new(cuda: &Cuda, laps: usize) -> Result<Self> {
        let mut made = Self { cuda: cuda.clone(), events: Vec::with_capacity(laps + 1) };
        for _ in 0..=laps {
            made.events.push(cuda.check("making events", cuda.driver().event_create(true))?);
        }
        Ok(made)
    }
    /// Seconds that the device takes for each of `laps`, done one after the other without a gap. There
    /// are no more laps than the stopwatch was made for.
    pub fn time<L>(&self, lane: &mut Lane, laps: &[L], mut run: impl FnMut(&mut Lane, &L) -> Result<()>) -> Result<Vec<f64>> {
        let driver = self.cuda.driver();
        let mark =
            |lane: &Lane, i: usize| self.cuda.check("recording an event", driver.event_record(self.events[i], lane.stream()));
        mark(lane, 0)?;
        for (i, lap) in laps.iter().enumerate() {
            run(lane, lap)?;
            mark(lane, i + 1)?;
        }
        self.cuda.check("waiting for the kernels", driver.event_synchronize(self.events[laps.len()]))?;
        let ends = self.events[..=laps.len()].windows(2);
        let seconds = ends.map(|e| Ok(f64::from(driver.event_elapsed(e[0], e[1])?) / 1e3)).collect();
        self.cuda.check("reading a time", seconds)
    }
}

// What fails while something is given back can only be ignored: the device is gone or going.
impl Drop for Stopwatch {
    fn drop(&mut self) {
        for event in &self.events {
            let _ = self.cuda.driver().event_destroy(*event);
        }
    }
}
