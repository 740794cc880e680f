//! Weights that lose nothing by it lie on the device as f16 or bf16, and give the very bits of f32.

use std::sync::Arc;

use half::{bf16, f16};
use mechgraph::device::wgpu::Options;
use mechgraph::device::{Builder, Cpu, DType, Device, Placement, Stored, Tensor, View};
use mechgraph::ops::linear::{Args, Matrix};
use mechgraph::ops::offload::Mirror;
use mechgraph::ops::{Launch, token_embed};

use super::{bits, open, values};
use crate::backends::against_cpu::Case;
use crate::backends::planted::{all_caught_on_wgpu, bug};

fn device(options: Options) -> Option<Device> {
    let wgpu = Arc::new(open(options)?);
    Some(Device::Wgpu { wgpu, host: Cpu::new(1).unwrap(), placement: Placement::default() })
}

fn rounded(n: usize, seed: u64, stored: Stored) -> Vec<f64> {
    let round = |x: f32| match stored {
        Stored::F16 => f16::from_f32(x).to_f32(),
        Stored::BF16 => bf16::from_f32(x).to_f32(),
        _ => x,
    };
    // A tenth of them below the smallest normal f16.
    values(n, seed).into_iter().enumerate().map(|(i, x)| round(if i % 10 == 3 { x * 6e-5 } else { x }).into()).collect()
}

/// The kernels of a case and the bits of its outputs.
fn results(case: &Case, device: &Device) -> Result<(Vec<String>, Vec<Vec<u32>>), String> {
    let kernels = Mirror::new(device, &case.program).unwrap().unwrap().kernels();
    let arena = case.run_on::<f32>(device)?;
    let rows = |v: &View| (0..v.rows).flat_map(|i| bits(arena.row(v, i))).collect();
    Ok((kernels, case.outputs.iter().map(rows).collect()))
}

/// A linear map of quads, in a block of a larger W.
fn linear((n, k, m): (usize, usize, usize), transpose: bool, stored: Stored, shift: usize) -> Case {
    let mut b = Builder::<Launch>::new(DType::F32);
    let (x, y) = (b.matrix(n, k), b.matrix(n, m));
    let (rows, cols) = if transpose { (m, k) } else { (k, m) };
    let tensor = Tensor::from_f64(DType::F32, rows + 1, cols + 8, rounded((rows + 1) * (cols + 8), 5, stored));
    let w = Matrix { row: 1, col: shift, rows, cols, ..Matrix::whole(&tensor) };
    b.push(Launch::Linear(Args { transpose, ..Args::new(x, w, y) }));
    Case { program: b.finish(), inputs: vec![(x, rounded(n * k, 6, Stored::F32))], ints: vec![], outputs: vec![y] }
}

/// Every `nth` row of a table of a type's numbers, which are no subnormal f32.
fn table(stored: Stored, cols: usize, nth: usize) -> (Case, Vec<u32>) {
    let numbers = (0..=u16::MAX).map(|i| match stored {
        Stored::F16 => f16::from_bits(i).to_f32(),
        _ => bf16::from_bits(i).to_f32(),
    });
    let mut numbers: Vec<f32> = numbers.filter(|x| x.is_finite() && !x.is_subnormal()).collect();
    numbers.truncate(numbers.len() / cols * cols);
    let mut b = Builder::<Launch>::new(DType::F32);
    let rows = numbers.len() / cols;
    let asked: Vec<u32> = (0..rows as u32).step_by(nth).collect();
    let (tokens, positions, y) = (b.ints(asked.len()), b.ints(asked.len()), b.matrix(asked.len(), cols));
    let w_e = Tensor::from_f64(DType::F32, rows, cols, numbers.iter().map(|x| f64::from(*x)).collect());
    b.push(Launch::TokenEmbed(token_embed::Args { tokens, positions, w_e, scale: None, w_pos: None, row: None, y }));
    let wanted = numbers.chunks(cols).step_by(nth).flat_map(bits).collect();
    (Case { program: b.finish(), inputs: vec![], ints: vec![(tokens, asked)], outputs: vec![y] }, wanted)
}

fn tables_are_right(device: &Device, nth: usize) -> Result<(), String> {
    // Rows of an odd number of elements begin in the middle of a word.
    for (stored, cols) in [(Stored::F16, 201), (Stored::BF16, 256)] {
        let (case, wanted) = table(stored, cols, nth);
        let (kernels, found) = results(&case, device)?;
        assert_eq!(kernels, ["embed_f32@half"]);
        if found != [wanted] {
            return Err(format!("{stored:?}: other bits"));
        }
    }
    Ok(())
}

#[test]
fn every_half_is_widened_to_itself() {
    let Some(device) = device(Options::default()) else { return println!("skipped: wgpu adapter is absent") };
    tables_are_right(&device, 1).unwrap();
    // A binding holds some forty rows.
    let tight = Options { largest_binding: Some(32 << 10), ..Options::default() };
    tables_are_right(&self::device(tight).unwrap(), 9).unwrap();
}

const SHAPES: [(usize, usize, usize); 3] = [(33, 20, 44), (130, 132, 68), (5, 300, 4)];

#[test]
fn a_linear_map_of_halves_gives_the_bits_of_f32() {
    let Some(narrow) = device(Options::default()) else { return println!("skipped: wgpu adapter is absent") };
    let wide = device(Options { narrow_weights: false, ..Options::default() }).unwrap();
    let tight = device(Options { largest_binding: Some(16 << 10), ..Options::default() }).unwrap();
    for shape in SHAPES {
        for transpose in [false, true] {
            for (stored, shift, loads) in
                [(Stored::F16, 4, "-half-"), (Stored::BF16, 0, "-half-"), (Stored::F16, 1, "-v1-"), (Stored::F32, 4, "-v4-")]
            {
                let case = linear(shape, transpose, stored, shift);
                let (kernels, found) = results(&case, &narrow).unwrap();
                assert!(kernels.len() == 1 && kernels[0].contains(loads), "{kernels:?}");
                let (kernels, wanted) = results(&case, &wide).unwrap();
                assert!(!kernels[0].contains("-half-"), "{kernels:?}");
                assert!(found == wanted, "{shape:?} {transpose} {stored:?} from column {shift}");
                assert!(results(&case, &tight).unwrap().1 == wanted, "{shape:?} {transpose} {stored:?}, cut");
            }
        }
    }
}

#[test]
fn planted_bugs_of_halves_are_caught() {
    let wide = device(Options { narrow_weights: false, ..Options::default() });
    let check = |device: &Device| {
        tables_are_right(device, 1)?;
        for stored in [Stored::F16, Stored::BF16] {
            let case = linear(SHAPES[0], true, stored, 4);
            if results(&case, device)?.1 != results(&case, wide.as_ref().unwrap())?.1 {
                return Err(format!("{stored:?}: other bits than in f32"));
            }
        }
        Ok(())
    };
    all_caught_on_wgpu(
        &[
            bug("embed_f32", "halves of a word exchanged", "16u * (at % 2u)", "16u * (1u - at % 2u)"),
            bug("embed_f32", "the wrong type", "p.flags & BRAIN) != 0u", "p.flags & BRAIN) == 0u"),
            bug("embed_f32", "the sign lost", "value | ((bits & vec4<u32>(0x8000u))", "value | ((bits & vec4<u32>(0x0u))"),
            bug("linear_f32", "subnormals as normal numbers", "magnitude < vec4<u32>(0x400u)", "magnitude < vec4<u32>(0u)"),
            bug("linear_f32", "the last subnormal a normal number", "vec4<u32>(0x400u)", "vec4<u32>(0x3ffu)"),
            bug("linear_f32", "the wrong exponent", "0x38000000u", "0x37800000u"),
            bug("linear_f32", "low and high exchanged", "(low.x, high.x, low.y, high.y)", "(high.x, low.x, high.y, low.y)"),
            bug("linear_f32", "words exchanged", "(low.x, high.x, low.y, high.y)", "(low.y, high.y, low.x, high.x)"),
        ],
        check,
    );
}
