//! Runs a grid: blocks one after another, the warps of a block by turns, both in an order of chance.

use crate::barrier::Barriers;
use crate::block::{Block, Chance};
use crate::fault::{Fault, FaultKind, Trouble};
use crate::lanes::WARP;
use crate::machine::{Launch, Options};
use crate::memory::GlobalMemory;
use crate::module::Kernel;
use crate::parser::capability;
use crate::shadow::{Clocks, SharedShadow};
use crate::shared::SharedMemory;
use crate::statistics::Statistics;
use crate::warp::Warp;

/// The most instructions a warp executes before it is another's turn.
const TURN: usize = 64;

/// Instructions of a block without any change of memory after which it is taken to run for ever.
const ENDLESS: u64 = 1 << 24;

/// What is wrong with a launch, if anything.
fn refuse(options: &Options, kernel: &Kernel, launch: &Launch) -> Option<String> {
    let threads = launch.block.iter().fold(1u64, |product, &extent| product.saturating_mul(extent.into()));
    let [gx, gy, gz] = launch.grid;
    let [bx, by, bz] = launch.block;
    let (params, expected) = (launch.params.len(), kernel.param_bytes());
    let shared = u64::from(kernel.static_shared()) + u64::from(launch.dynamic_shared);
    if gx == 0 || gy == 0 || gz == 0 || gx > i32::MAX as u32 || gy > 65_535 || gz > 65_535 {
        return Some(format!("a grid of {gx} x {gy} x {gz} blocks; expected 1 to 2147483647, 65535 and 65535"));
    }
    if u64::from(gx) * u64::from(gy) * u64::from(gz) >= u64::from(u32::MAX) {
        return Some(format!("a grid of {gx} x {gy} x {gz} blocks; expected fewer than 4294967295 in all"));
    }
    if threads == 0 || threads > 1024 || bz > 64 {
        return Some(format!("a block of {bx} x {by} x {bz} threads; expected 1 to 1024, at most 64 along z"));
    }
    if let Some(required) = kernel.required.filter(|required| *required != launch.block) {
        return Some(format!("a block of {bx} x {by} x {bz} threads; expected .reqntid {required:?}"));
    }
    if threads > u64::from(kernel.max_threads()) {
        return Some(format!("a block of {threads} threads; expected at most .maxntid {}", kernel.max_threads()));
    }
    if shared > options.shared_per_block.into() {
        let most = options.shared_per_block;
        return Some(format!("a block with {shared} bytes of shared memory; expected at most {most}"));
    }
    if params != expected as usize {
        return Some(format!("{params} bytes of parameters; expected {expected}"));
    }
    let (needed, specific) = capability(&kernel.target)?;
    let found = options.capability;
    if found < needed || specific && found != needed {
        let (major, minor) = found;
        return Some(format!("a device of compute capability {major}.{minor}; expected what {} needs", kernel.target));
    }
    None
}

fn fault(kernel: &Kernel, line: u32, cta: [u32; 3], warp: usize, trouble: Trouble) -> Fault {
    Fault {
        kernel: kernel.name.clone(),
        line: line as usize,
        text: kernel.lines.get(line as usize - 1).cloned().unwrap_or_default(),
        cta,
        warp: warp as u32,
        lane: trouble.lane,
        kind: trouble.kind,
        message: trouble.message,
    }
}

/// Runs the block `block.number`.
fn run_block(block: &mut Block, warps: &mut [Warp]) -> Result<(), Fault> {
    let cta = block.index(block.number);
    block.live = u32::MAX >> (WARP - warps.len());
    block.changed = block.statistics.instructions;
    block.barriers.reset();
    block.shared.reset();
    if block.clocks.start() {
        block.shadow.clear();
    }
    for warp in warps.iter_mut() {
        warp.start(block);
    }
    let mut order: Vec<usize> = (0..warps.len()).collect();
    while block.live != 0 {
        block.chance.shuffle(&mut order);
        let mut stuck = true;
        for &index in &order {
            let warp = &mut warps[index];
            if warp.live == 0 || warp.waiting.is_some_and(|waiting| !block.barriers.is_past(waiting)) {
                continue;
            }
            warp.waiting = None;
            stuck = false;
            let turn = 1 + block.chance.below(TURN);
            if let Err(trouble) = warp.run(block, turn) {
                return Err(fault(block.kernel, warp.line(block.kernel), cta, index, *trouble));
            }
        }
        if stuck {
            return Err(deadlock(block, warps, cta));
        }
        if block.statistics.instructions - block.changed > ENDLESS {
            return Err(endless(block, warps, cta));
        }
    }
    Ok(())
}

/// The fault for a block all of whose live warps wait.
fn deadlock(block: &Block, warps: &[Warp], cta: [u32; 3]) -> Fault {
    let waits = warps.iter().filter_map(|warp| {
        let (id, _) = warp.waiting.filter(|_| warp.live != 0)?;
        Some(format!("warp {} at line {} for {}", warp.index, warp.line(block.kernel), block.barriers.describe(id)))
    });
    let waits: Vec<String> = waits.take(4).collect();
    let message = format!("every live warp waits and nobody is left to come: {}", waits.join("; "));
    let first = warps.iter().find(|warp| warp.live != 0).map_or(0, |warp| warp.index);
    let trouble = Trouble { lane: None, kind: FaultKind::Deadlock, message };
    fault(block.kernel, warps[first].line(block.kernel), cta, first, trouble)
}

/// The fault for a block that goes on without ever changing memory.
fn endless(block: &Block, warps: &[Warp], cta: [u32; 3]) -> Fault {
    let running = |warp: &&Warp| warp.live != 0 && warp.waiting.is_none_or(|waiting| block.barriers.is_past(waiting));
    let first = warps.iter().find(running).map_or(0, |warp| warp.index);
    let message = format!("the block has executed {ENDLESS} instructions without changing memory; expected it to come to an end");
    let trouble = Trouble { lane: None, kind: FaultKind::Deadlock, message };
    fault(block.kernel, warps[first].line(block.kernel), cta, first, trouble)
}

/// Runs a kernel over its grid.
pub(crate) fn launch(
    memory: &mut GlobalMemory,
    options: &Options,
    kernel: &Kernel,
    launch: &Launch,
) -> Result<Statistics, Fault> {
    if let Some(message) = refuse(options, kernel, launch) {
        return Err(Fault {
            kernel: kernel.name.clone(),
            line: 0,
            text: String::new(),
            cta: [0; 3],
            warp: 0,
            lane: None,
            kind: FaultKind::IllegalLaunch,
            message,
        });
    }
    let threads: u32 = launch.block.iter().product();
    let warps = threads.div_ceil(WARP as u32) as usize;
    let shared = kernel.static_shared() + launch.dynamic_shared;
    let granule = kernel.smallest_access;
    let launch_id = memory.next_launch();
    let mut chance = Chance::new(options.seed ^ launch_id.rotate_left(32));
    let mut order: Vec<u32> = (0..launch.grid.iter().product()).collect();
    chance.shuffle(&mut order);
    let mut block = Block {
        kernel,
        launch,
        options,
        global: memory,
        launch_id,
        number: 0,
        shared: SharedMemory::new(shared),
        shadow: SharedShadow::new(shared, granule, warps),
        clocks: Clocks::new(warps),
        barriers: Barriers::new(warps),
        live: 0,
        statistics: Statistics::default(),
        changed: 0,
        chance,
        serial: 0,
        shift: granule.trailing_zeros(),
    };
    let mut warps: Vec<Warp> = (0..warps).map(|index| Warp::new(index, kernel)).collect();
    for number in order {
        block.number = number;
        run_block(&mut block, &mut warps)?;
    }
    Ok(block.statistics)
}
