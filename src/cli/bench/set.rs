//! One set of inputs with the memory of a run, on the host and on the device: an operation as any run of the program does it.

use super::case::Case;
use super::check::{Ran, found};
use crate::device::wgpu::Recorded;
use crate::device::{Arena, Device, Real};
use crate::error::Result;
use crate::ops::offload::Mirror;
use crate::ops::run_cpu;

/// Memory on the host, and its mirror on a device that is not the CPU.
pub struct Set<'a, T> {
    device: &'a Device,
    arena: Arena<T>,
    mirror: Option<Mirror>,
}

impl<'a, T: Real> Set<'a, T> {
    /// The inputs of `case`, what is an output alone NaN. Fails where the device has no room.
    pub fn new(device: &'a Device, case: &Case) -> Result<Self> {
        let arena = device.host().install(|| case.arena::<T>(T::DTYPE));
        Ok(Self { device, arena, mirror: Mirror::new(device, &case.program)? })
    }
    /// Memory on the host, the inputs in it.
    pub fn arena(&self) -> &Arena<T> {
        &self.arena
    }
    /// Runs without waiting for the device.
    pub fn run(&mut self, case: &Case) -> Result<()> {
        match &mut self.mirror {
            Some(mirror) => mirror.run(&case.program, &mut self.arena),
            None => {
                self.device.host().install(|| run_cpu(&case.program, &mut self.arena));
                Ok(())
            }
        }
    }
    /// Runs and reads the outputs.
    pub fn once(&mut self, case: &Case) -> Result<Ran> {
        self.run(case)?;
        self.mirror.iter_mut().try_for_each(|mirror| mirror.bring_home(&mut self.arena))?;
        let kernels = self.mirror.as_ref().map_or_else(|| vec!["faer".into()], Mirror::kernels);
        Ok(Ran { found: found(case, &self.arena), kernels })
    }
    /// The launches, where there is nothing beside them on a wgpu device.
    pub fn recorded(&self) -> Option<&[Recorded]> {
        self.mirror.as_ref().and_then(Mirror::recorded)
    }
}
