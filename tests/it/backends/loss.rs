//! Losses of one run and of many, and the largest activations of samples.

use mechgraph::device::{Arena, Builder, DType, Device, IntBuffer, Real};
use mechgraph::ops::Launch;
use mechgraph::ops::loss::{Args, ProbeArgs, SKIPPED};
use mechgraph::ops::peaks::{self, BINS, Bars, Passed, TILE};

use super::against_cpu::{Case, agrees, agrees_on, inside};
use super::planted::{all_caught, all_caught_on_wgpu, bug, wgpu_with};
use super::{Backend, bar, on_every_backend, rounded};

/// Logits of which every fourth row has its largest twice, and labels that are right for some.
fn logits(rows: usize, cols: usize) -> (Vec<f64>, Vec<u32>) {
    let mut logits: Vec<f64> = rounded(DType::F32, rows * cols, 1).into_iter().map(|x| 20.0 * x).collect();
    let mut labels = Vec::new();
    for (i, row) in logits.chunks_mut(cols).enumerate() {
        let best = (0..cols).fold(0, |best, j| if row[j] > row[best] { j } else { best });
        let other = (best + 1 + i) % cols;
        if i % 4 == 1 {
            row[other] = row[best];
        }
        labels.push(match i % 5 {
            0 => SKIPPED,
            1 | 2 => best as u32,
            3 => other as u32,
            _ => (i % cols) as u32,
        });
    }
    (logits, labels)
}

pub fn loss(dtype: DType, (rows, cols): (usize, usize)) -> Case {
    let mut b = Builder::<Launch>::new(dtype);
    let from = 3;
    let (x, labels, out) = (inside(&mut b, rows, cols), b.ints(from + rows + 2), inside(&mut b, 1, 2));
    let (data, of_rows) = logits(rows, cols);
    b.push(Launch::Loss(Args { logits: x, labels, from, out }));
    // What is before and behind the labels that are meant are no labels at all.
    let ints = [&[u32::MAX - 1; 3][..], &of_rows, &[u32::MAX - 1; 2]].concat();
    Case { program: b.finish(), inputs: vec![(x, data), (out, vec![0.5, 2.0])], ints: vec![(labels, ints)], outputs: vec![out] }
}

pub fn of_runs(dtype: DType, (rows, cols): (usize, usize), chunk: u32) -> Case {
    let mut b = Builder::<Launch>::new(dtype);
    let (probes, runs) = (3, 5);
    let (x, labels, index, out) = (inside(&mut b, probes * rows, cols), b.ints(rows), b.ints(1), inside(&mut b, runs, 2));
    let (data, _) = logits(probes * rows, cols);
    let (_, of_rows) = logits(rows, cols);
    b.push(Launch::ProbeLoss(ProbeArgs { logits: x, labels, index, out }));
    let before = rounded(DType::F32, 2 * runs, 2);
    let ints = vec![(labels, of_rows), (index, vec![chunk])];
    Case { program: b.finish(), inputs: vec![(x, data), (out, before)], ints, outputs: vec![out] }
}

/// The peaks of samples, with what they leave beside their views.
pub struct Largest {
    pub case: Case,
    counts: IntBuffer,
    passed: Passed,
}

/// Samples of `positions` rows with equal activations, zeros and sizes far apart; bars that some pass, and room for half of
/// what a list may have. Every fourth neuron has no best yet; `silent` ones never exceed minus infinity.
pub fn largest(dtype: DType, (samples, positions, skip, width): (usize, usize, usize, usize), silent: bool) -> Largest {
    let mut b = Builder::<Launch>::new(dtype);
    let x = inside(&mut b, samples * positions, width);
    let [max, at, picked] = std::array::from_fn(|_| inside(&mut b, samples, width));
    let (first, counts, capacity) = (b.ints(1), b.ints(width * BINS), (samples * width.min(TILE)).div_ceil(2));
    let bars = Bars { least: inside(&mut b, 1, width), most: b.ints(2 * width) };
    let passed =
        Passed { cells: b.ints(Passed::cells_len(width, capacity)), values: inside(&mut b, Passed::lists(width), capacity) };
    b.push(Launch::Peaks({
        let args = peaks::Args { x, positions, skip, max, at, picked, first, seed: 7, counts, bars, passed };
        args.check().unwrap();
        args
    }));
    let mut data: Vec<f64> = rounded(DType::F32, samples * positions * width, 3);
    for (i, x) in data.iter_mut().enumerate() {
        *x = match i % 11 {
            0 => 0.5,
            1 => 0.0,
            2 => *x * 1e-6,
            3 => *x * 1e6,
            _ => *x,
        };
        if silent && i % width % 4 == 0 {
            *x = f64::NEG_INFINITY;
        }
    }
    let least = (0..width).map(|j| [f64::NEG_INFINITY, 0.5, 1e4, f64::INFINITY][j % 4]).collect();
    let most = (0..2 * width as u32).map(|i| [u32::MAX / 3, 0, u32::MAX / 5][i as usize % 3]).collect();
    let before = (0..(width * BINS) as u32).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
    let case = Case {
        program: b.finish(),
        inputs: vec![(x, data), (bars.least, least)],
        ints: vec![(first, vec![40]), (bars.most, most), (counts, before)],
        outputs: vec![max, at, picked],
    };
    Largest { case, counts, passed }
}

/// Cells, positions and activations; `None` where the list is too short for them.
type List = Option<Vec<(u32, u32, f64)>>;

impl Largest {
    /// The counts, and what every list holds.
    fn found<T: Real>(&self, m: &Arena<T>) -> (Vec<u32>, Vec<List>) {
        let list = |list| {
            let cells = self.passed.list(m.int(self.passed.cells), list)?.chunks_exact(2);
            Some(cells.zip(m.row(&self.passed.values, list)).map(|(c, v)| (c[0], c[1], v.to_f64())).collect())
        };
        (m.int(self.counts).to_vec(), (0..self.passed.values.rows).map(list).collect())
    }
    /// Whether a device leaves what the CPU does.
    pub fn agrees_on<T: Real>(&self, device: &Device) -> Result<(), String> {
        let (found, want) = (self.found(&self.case.run_on::<T>(device)?), self.found(&self.case.on_cpu::<T>()));
        if found.0 != want.0 {
            return Err("other counts".into());
        }
        if found.1 == want.1 { Ok(()) } else { Err(format!("lists {:?} instead of {:?}", found.1, want.1)) }
    }
}

const SAMPLES: [(usize, usize, usize, usize); 5] = [(1, 1, 0, 1), (3, 5, 1, 33), (2, 70, 0, 31), (1, 129, 3, 64), (9, 16, 2, 40)];

fn all_losses<T: Real>(backend: Backend) {
    for shape in [(1, 1), (2, 3), (37, 41), (7, 700)] {
        agrees::<T>(backend, bar(T::DTYPE), |dtype| loss(dtype, shape));
        (0..2).for_each(|chunk| agrees::<T>(backend, bar(T::DTYPE), |dtype| of_runs(dtype, shape, chunk)));
    }
}

fn all_largest<T: Real>(backend: Backend) {
    for shape in SAMPLES {
        agrees::<T>(backend, 0.0, |dtype| largest(dtype, shape, false).case);
        for device in backend.devices().iter().filter(|_| backend != Backend::Cpu) {
            for silent in [false, true] {
                let same = largest(T::DTYPE, shape, silent).agrees_on::<T>(device);
                assert!(same.is_ok(), "{backend:?} {shape:?}: {same:?}");
            }
        }
    }
}

on_every_backend! {
    fn losses_and_right_predictions_in_f32(backend: Backend) { all_losses::<f32>(backend) }
    fn the_largest_activations_of_samples_in_f32(backend: Backend) { all_largest::<f32>(backend) }
}

on_every_backend! {
    f64:
    fn losses_and_right_predictions_in_f64(backend: Backend) { all_losses::<f64>(backend) }
    fn the_largest_activations_of_samples_in_f64(backend: Backend) { all_largest::<f64>(backend) }
}

#[test]
fn wgpu_losses_of_good_predictions_keep_their_digits() {
    let Some(device) = wgpu_with(Default::default()) else { return };
    for better in [3.0f64, 12.0, 16.0] {
        let mut case = loss(DType::F32, (37, 41));
        let labels: Vec<usize> = case.ints[0].1[3..40].iter().map(|label| *label as usize).collect();
        let rows = case.inputs[0].1.chunks_mut(41).zip(&labels);
        rows.filter(|(_, label)| **label < 41).for_each(|(row, &label)| {
            row.iter_mut().for_each(|x| *x = f64::from((*x / 20.0) as f32));
            row[label] = f64::from((row[label] + better) as f32);
        });
        case.inputs[1].1 = vec![0.0; 2];
        let sums = |found: &Arena<f32>| f64::from(found.row(&case.outputs[0], 0)[0]);
        let found = sums(&case.run_on::<f32>(&device).unwrap());
        let rows = case.inputs[0].1.chunks(41).zip(&labels).filter(|(_, label)| **label < 41);
        let want: f64 = rows.map(|(row, &label)| row.iter().map(|x| (x - row[label]).exp()).sum::<f64>().ln()).sum();
        assert!((found - want).abs() <= 1e-6 * want, "{found} for {want}");
    }
}

#[test]
fn cuda_interpreter_bugs_planted_in_losses_and_peaks_are_caught() {
    let check = |device: &Device| {
        agrees_on::<f32>(device, 1e-6, |dtype| loss(dtype, (37, 300)))?;
        agrees_on::<f32>(device, 1e-6, |dtype| of_runs(dtype, (37, 41), 1))?;
        for shape in SAMPLES {
            agrees_on::<f32>(device, 0.0, |dtype| largest(dtype, shape, false).case)?;
            largest(DType::F32, shape, true).agrees_on::<f32>(device)?;
        }
        Ok(())
    };
    all_caught(
        &[
            bug("loss_rows_sm80", "no barrier before a sum over the CTA", "    bar.sync        0;\n@%leads", "@%leads"),
            bug("loss_rows_sm80", "the first labels are read", "add.u32         %column, %column, %from;", ""),
            bug(
                "loss_rows_sm80",
                "an equal logit before the label's does not count",
                "setp.lt.f32 %good, %x, %picked;",
                "setp.le.f32 %good, %x, %picked;",
            ),
            bug(
                "loss_rows_sm80",
                "rows left out are not",
                "setp.eq.u32     %left_out, %label, 0xFFFFFFFF;",
                "setp.eq.u32 %left_out, %label, 0xFFFFFFF0;",
            ),
            bug(
                "loss_fold_sm80",
                "rows behind the first 32 are left out",
                "add.u32         %i, %i, 32;",
                "add.u32 %i, %i, 3200;",
            ),
            bug("loss_fold_sm80", "every chunk is the first", "@%counted ld.global.u32 %row, [%index];", ""),
            bug(
                "peaks_sm80",
                "the counts are not cleared before they are added to",
                "bar.sync        0;\n\n    // This lane's",
                "// This lane's",
            ),
            bug(
                "peaks_sm80",
                "the last of equal activations",
                "setp.lt.u32     %earlier, %where, %best_at;",
                "setp.gt.u32 %earlier, %where, %best_at;",
            ),
            bug("peaks_sm80", "positions that are passed over count", "add.u32         %t, %skip, %warp;", "mov.u32 %t, %warp;"),
            bug("peaks_sm80", "the next sample is begun before the last is joined", "passed:\n    bar.sync        0;", "passed:"),
            bug("peaks_sm80", "what was counted before is forgotten", "add.u32         %count, %count, %other;", ""),
            bug("peaks_sm80", "lanes list over each other", "add.u32         %slot, %slot, %listed;", ""),
            bug("peaks_sm80", "both lists have the seed", "@!%picks not.b32    %key, %key;", ""),
            bug("peaks_sm80", "the lists of a CTA are one", "mad.lo.u32      %i, %i, 2, %warp;", "mul.lo.u32 %i, %i, 2;"),
            bug(
                "peaks_sm80",
                "random activations that are not positive pass",
                "setp.gt.and.f32 %passes, %best, 0f00000000, %passes;",
                "",
            ),
            bug("peaks_sm80", "neurons without a best are passed over", "or.pred         %larger, %larger, %empty;", ""),
            bug("peaks_sm80", "a list goes on where there is no room", "setp.lt.and.u32 %passes, %slot, %capacity, %passes;", ""),
            bug("peaks_sm80", "zero is a positive activation", "setp.le.f32     %low1,", "setp.lt.f32 %low1,"),
        ],
        check,
    );
}

#[test]
fn wgpu_bugs_planted_in_losses_and_peaks_are_caught() {
    const ROWS: &str = "loss_rows_f32";
    const FOLD: &str = "loss_fold_f32";
    const PEAKS: &str = "peaks_f32";
    const LISTS: &str = "peak_lists_f32";
    let check = |device: &Device| {
        agrees_on::<f32>(device, 1e-6, |dtype| loss(dtype, (137, 300)))?;
        agrees_on::<f32>(device, 1e-6, |dtype| of_runs(dtype, (37, 41), 1))?;
        for shape in SAMPLES {
            agrees_on::<f32>(device, 0.0, |dtype| largest(dtype, shape, false).case)?;
            largest(DType::F32, shape, true).agrees_on::<f32>(device)?;
        }
        Ok(())
    };
    let bugs = [
        bug(ROWS, "the last of equal logits", "b.y < a.y", "b.y > a.y"),
        bug(ROWS, "the largest counts twice", "if j != place {", "if true {"),
        bug(ROWS, "rows left out are not", "label == 0xffffffffu", "label == 0xfffffff0u"),
        bug(FOLD, "rows behind the first 64 are left out", "i += 64u", "i += 6400u"),
        bug(FOLD, "every chunk is the first", "row += index[p.index_at] * p.runs;", ""),
        bug(PEAKS, "the last of equal activations", "best_at_of[other] < best_at;", "best_at_of[other] > best_at;"),
        bug(PEAKS, "positions that are passed over count", "var t = p.skip + line;", "var t = line;"),
        bug(PEAKS, "what was counted before is forgotten", "counts[place] += found", "counts[place] = found"),
        bug(PEAKS, "zero is a positive activation", "bits >> 31u == 1u || size == 0u", "bits >> 31u == 1u"),
        bug(PEAKS, "neurons share a count", "select(1u, 65536u, lane >= 16u)", "1u"),
        bug(LISTS, "samples list over each other", "                slot += count;\n", ""),
        bug(LISTS, "both lists have the seed", "select(~p.seed, p.seed, picks == 1u)", "p.seed"),
        bug(LISTS, "random activations that are not positive pass", "value > 0u && value <= 0x7f800000u && key", "key"),
        bug(LISTS, "neurons without a best are passed over", "above || bar == MINUS_INFINITY ||", "above ||"),
        bug(LISTS, "a list goes on where there is no room", "passes && slot < p.capacity", "passes"),
    ];
    all_caught_on_wgpu(&bugs, check);
}
