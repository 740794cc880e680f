//! Bugs planted in the kernels' texts under the very host code that launches them: each must be caught, by a
//! fault of the interpreter or by wrong numbers, in one of the orders that every operation is run in; in WGSL
//! by wrong numbers on the adapter of the tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mechgraph::device::cuda::Alter;
use mechgraph::device::wgpu::{Options as Opened, Wgpu};
use mechgraph::device::{Arena, Cpu, Cuda, Device, IntBuffer, Placement, Program, Real, View};
use mechgraph::kernel::wgsl::KERNELS;
use mechgraph::ops::Launch;
use mechgraph::ops::offload::Mirror;
use ptxvm::{Completion, Options};

use super::{adapter, fill, fill_ints};

/// A bug: the kernel, what is wrong, the sound text, the broken text. Every occurrence of the sound text is
/// replaced; it must occur.
pub struct Bug {
    kernel: &'static str,
    what: &'static str,
    sound: &'static str,
    broken: &'static str,
}

/// Shorthand for a [`Bug`].
pub const fn bug(kernel: &'static str, what: &'static str, sound: &'static str, broken: &'static str) -> Bug {
    Bug { kernel, what, sound, broken }
}

/// Holds every bug to be caught by `check`, which is handed a device, tells what went wrong, and must be content
/// with the sound kernels.
pub fn all_caught(bugs: &[Bug], check: impl Fn(&Device) -> Result<(), String>) {
    let orders = [(0, Completion::Late), (1, Completion::Early), (2, Completion::Late)];
    let options = |(seed, completion)| Options { seed, completion, ..Options::default() };
    let over = |cuda: Cuda| Device::Cuda { gpus: cuda.into(), host: Cpu::new(1).unwrap(), placement: Placement::default() };
    check(&over(Cuda::interpreter(options(orders[0])).unwrap())).expect("the sound kernels");
    let missed = bugs.iter().filter(|Bug { kernel, sound, broken, .. }| {
        let caught = orders.iter().any(|order| {
            let met = Arc::new(AtomicBool::new(false));
            let found = check(&over(Cuda::altered(options(*order), replacing(kernel, sound, broken, met.clone())).unwrap()));
            assert!(met.load(Ordering::Relaxed), "{kernel}: no text with '{sound}' was run");
            found.is_err()
        });
        !caught
    });
    let missed: Vec<String> = missed.map(|bug| format!("{}: {}", bug.kernel, bug.what)).collect();
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

/// The wgpu adapter of the tests with other options than the usual; `None` where this machine lacks it, which is printed.
pub fn wgpu_with(options: Opened) -> Option<Device> {
    match Wgpu::open_with(Some(&adapter()), options) {
        Ok(wgpu) => Some(Device::Wgpu { wgpu: wgpu.into(), host: Cpu::new(1).unwrap(), placement: Placement::default() }),
        Err(why) if std::env::var_os("MECHGRAPH_ADAPTER").is_none() => {
            println!("skipped: wgpu: {why}");
            None
        }
        Err(why) => panic!("{why}"),
    }
}

/// [`all_caught`] for WGSL kernels.
pub fn all_caught_on_wgpu(bugs: &[Bug], check: impl Fn(&Device) -> Result<(), String>) {
    let Some(sound) = wgpu_with(Opened::default()) else { return };
    check(&sound).expect("the sound kernels");
    let missed = bugs.iter().filter(|Bug { kernel, sound, broken, .. }| {
        let text = KERNELS.iter().find(|k| k.name == *kernel).unwrap();
        let mut texts = (text.configurations)().into_iter().map(|c| text.expand(&c).unwrap());
        assert!(texts.any(|text| text.contains(sound)), "{kernel}: no text has '{sound}'");
        let device = wgpu_with(Opened { planted: Some((sound, broken)), ..Opened::default() }).unwrap();
        check(&device).is_ok()
    });
    let missed: Vec<String> = missed.map(|bug| format!("{}: {}", bug.kernel, bug.what)).collect();
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

/// Puts one text for another in a kernel, and notes that it did.
fn replacing(kernel: &'static str, sound: &'static str, broken: &'static str, met: Arc<AtomicBool>) -> Alter {
    Alter(Box::new(move |name, text| {
        if name != kernel || !text.contains(sound) {
            return text.into();
        }
        met.store(true, Ordering::Relaxed);
        text.replace(sound, broken)
    }))
}

/// Runs a program on a device, over these inputs.
pub fn run_on<T: Real>(device: &Device, program: &Program<Launch>, inputs: &[(View, Vec<f64>)]) -> Result<Arena<T>, String> {
    run_on_with_ints(device, program, inputs, &[])
}

/// [`run_on`] with numbers beside the inputs.
pub fn run_on_with_ints<T: Real>(
    device: &Device,
    program: &Program<Launch>,
    inputs: &[(View, Vec<f64>)],
    ints: &[(IntBuffer, Vec<u32>)],
) -> Result<Arena<T>, String> {
    let mut arena = Arena::<T>::new(&program.layout);
    let mut mirror = Mirror::new(device, program).map_err(|e| e.to_string())?.expect("a device");
    fill(&mut arena, inputs);
    fill_ints(&mut arena, ints);
    let ran = mirror.run(program, &mut arena).and_then(|()| mirror.bring_home(&mut arena));
    ran.map_err(|e| e.to_string())?;
    Ok(arena)
}
