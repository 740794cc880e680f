//! Bugs planted in the kernels' texts under the very host code that launches them: each must be caught, by a
//! fault of the interpreter or by wrong numbers, in one of the orders that every operation is run in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mechgraph::device::cuda::Alter;
use mechgraph::device::{Cpu, Cuda, Device, Placement};
use ptxvm::{Completion, Options};

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
    let over = |cuda: Cuda| Device::Cuda { cuda, host: Cpu::new(1).unwrap(), placement: Placement::default() };
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
