//! Operations whose operands exceed a binding are cut by rows or probes, outputs in one buffer share a binding, and what
//! cannot be cut is left to the host: the same numbers as on the CPU each time.

use std::sync::Arc;

use mechgraph::device::wgpu::Options;
use mechgraph::device::{Builder, Cpu, DType, Device, IntBuffer, Placement, Tensor, View};
use mechgraph::ops::activation::{self, Activation};
use mechgraph::ops::norm::{Cotangent, Kind, NormaliseCotangent};
use mechgraph::ops::packing::Heads;
use mechgraph::ops::probes::{self, Kind as Probe};
use mechgraph::ops::{Launch, copy, embed, gated, gather, mask, offload, rope};

use super::open;
use crate::backends::against_cpu::{Case, agrees_on, inside};
use crate::backends::rounded;

/// Bytes of the largest binding, and workgroups along an axis: two samples of 37 rows do not fit.
fn tight() -> Options {
    Options { largest_binding: Some(4096), largest_grid: Some(20), ..Options::default() }
}

/// Rows, columns, probes.
const N: usize = 37;
const D: usize = 70;
const R: usize = 3;

struct Plan {
    b: Builder<Launch>,
    inputs: Vec<(View, Vec<f64>)>,
    ints: Vec<(IntBuffer, Vec<u32>)>,
}

impl Plan {
    fn new(dtype: DType) -> Self {
        Self { b: Builder::new(dtype), inputs: vec![], ints: vec![] }
    }
    fn input(&mut self, rows: usize, cols: usize) -> View {
        let view = inside(&mut self.b, rows, cols);
        self.filled(view)
    }
    fn filled(&mut self, view: View) -> View {
        self.inputs.push((view, rounded(DType::F32, view.rows * view.cols, 1 + self.inputs.len() as u64)));
        view
    }
    fn output(&mut self, rows: usize, cols: usize) -> View {
        inside(&mut self.b, rows, cols)
    }
    fn numbers(&mut self, numbers: Vec<u32>) -> IntBuffer {
        let buffer = self.b.ints(numbers.len());
        self.ints.push((buffer, numbers));
        buffer
    }
    fn table(&self, rows: usize, cols: usize) -> Tensor {
        Tensor::from_f64(self.b.dtype(), rows, cols, rounded(DType::F32, rows * cols, 99))
    }
    fn done(mut self, launch: Launch, outputs: Vec<View>) -> Case {
        self.b.push(launch);
        Case { program: self.b.finish(), inputs: self.inputs, ints: self.ints, outputs }
    }
}

/// One operation of each way of cutting, by number.
fn large(dtype: DType, number: usize) -> Case {
    let mut p = Plan::new(dtype);
    match number {
        0 => {
            let (x, y) = (p.input(N, D), p.input(N, D));
            p.done(Launch::Copy(copy::Args { scale: 0.7, ..copy::Args::add(x, y) }), vec![y])
        }
        1 => {
            let (x, dy, dx) = (p.input(N, D), p.input(R * N, D), p.input(R * N, D));
            let w = Some(p.table(1, D));
            let args = Cotangent { kind: Kind::Layer, x, dy, dx, eps: 1e-3, w, accumulate: true };
            p.done(Launch::NormCotangent(args), vec![dx])
        }
        // The outputs are columns of the same rows.
        2 => {
            let (x, v, dy) = (p.input(N, D), p.input(N, 1), p.input(R * N, D));
            let both = p.output(R * N, D + 1);
            let (dv, dx) = (both.columns(0, 1), both.columns(1, D));
            p.done(Launch::NormaliseCotangent(NormaliseCotangent { x, v, dy, dx, dv, eps: 1e-3 }), vec![both])
        }
        3 => {
            let (g, u, dh) = (p.input(N, D), p.input(N, D), p.input(R * N, D));
            let both = p.output(R * N, 2 * D);
            let (dg, du) = (both.columns(0, D), both.columns(D, D));
            let args = gated::TangentArgs { act: Activation::Silu, g, u, dg, du, dh, transpose: true };
            p.done(Launch::GatedTangent(args), vec![both])
        }
        4 => {
            let (x, dx, dy) = (p.input(N, D), p.input(R * N, D), p.output(R * N, D));
            let args = activation::TangentArgs { act: Activation::Solu, x, dx, dy, transpose: false };
            p.done(Launch::ActivationTangent(args), vec![dy])
        }
        5 => {
            let x = Heads::dense(p.input(R * N, D), 35);
            let (cos, sin) = (p.table(N, 16), p.table(N, 16));
            let positions = p.numbers((0..N as u32).rev().collect());
            let args = rope::Args { x, y: x, heads: 2, d_head: 35, cos, sin, positions, inverse: false };
            p.done(Launch::Rope(args), vec![x.view])
        }
        6 => {
            let (f_hat, y, masks) = (p.input(N, D), p.output(R * N, D), p.table(7, D));
            let index = p.numbers(vec![2]);
            p.done(Launch::Mask(mask::Args { f_hat, masks, index, y }), vec![y])
        }
        7 => {
            let (x, y, w_t) = (p.input(R * N, D), p.input(N, 9), p.table(9, D));
            let (owners, index) = ((0..9).map(|f| f * 5 % 7).collect(), p.numbers(vec![1]));
            p.done(Launch::Readout(mask::ReadoutArgs { x, w_t, owners, index, y }), vec![y])
        }
        8 | 9 => {
            let (y, c_t) = (p.output(R * N, D), p.table(11, D));
            let (first, index) = (p.numbers(vec![5]), p.numbers(vec![1]));
            let kind = if number == 8 { Probe::Signs { sources: 5 } } else { Probe::PositionSigns { sources: 2 } };
            let args = probes::Args { kind, seed: 3, c_t: Some(c_t), positions: N, first, index, probes: R, y };
            p.done(Launch::Probes(args), vec![y])
        }
        10 => {
            let (x, y) = (p.input(20 * 5, D), p.output(20 * 4, D));
            let rows = p.numbers(vec![4, 0, 0, 2]);
            p.done(Launch::Gather(gather::Args { x, rows, y }), vec![y])
        }
        11 => {
            let tokens = p.numbers((0..12).map(|i| i * 7 % 40).collect());
            let (w_e, w_pos) = (p.table(40, D), p.table(4, D));
            let y = p.output(12, D);
            let parts = [p.output(12, D), p.output(12, D)];
            let args = embed::Args { tokens, seq: 4, w_e, w_pos, token_out: Some(parts[0]), pos_out: Some(parts[1]), y };
            p.done(Launch::Embed(args), vec![y, parts[0], parts[1]])
        }
        // Rows of whole quads.
        12 => {
            let (x, y) = (p.b.matrix(N, 72), p.b.matrix(N, 144).columns(68, 72));
            let (x, y, w, bias) = (p.filled(x), p.filled(y), p.table(1, 72), Some(p.table(1, 72)));
            p.done(Launch::Scale(copy::ScaleArgs { x, w, bias, y, accumulate: true }), vec![y])
        }
        _ => {
            let (y, index) = (p.output(20 * N, 20), p.numbers(vec![1]));
            p.done(Launch::Basis(probes::BasisArgs { rows: 2 * N - 9, index, y }), vec![y])
        }
    }
}

fn device(options: Options) -> Option<Device> {
    let wgpu = open(options)?;
    Some(Device::Wgpu { wgpu: Arc::new(wgpu), host: Cpu::new(1).unwrap(), placement: Placement::default() })
}

#[test]
fn operations_above_the_limit_of_a_binding_are_cut_and_shared_buffers_bound_once() {
    for options in [Options::default(), tight()] {
        let Some(device) = device(options) else { return println!("skipped: wgpu adapter is absent") };
        for number in 0..14 {
            offload::note(&device, &large(DType::F32, number).program);
            let placed = device.placed().unwrap();
            assert!(placed.host.is_empty(), "{number}: {:?} on the host", placed.host);
            agrees_on::<f32>(&device, 5e-6, |dtype| large(dtype, number)).unwrap_or_else(|e| panic!("{number}: {e}"));
        }
    }
}

#[test]
fn the_checks_of_every_access_change_no_bit() {
    let checked = Options { runtime_checks: true, ..Options::default() };
    let [Some(plain), Some(checked)] = [Options::default(), checked].map(device) else {
        return println!("skipped: wgpu adapter is absent");
    };
    for number in 0..14 {
        let case = large(DType::F32, number);
        let bits = |device: &Device| -> Vec<u32> {
            let arena = case.run_on::<f32>(device).unwrap();
            case.outputs.iter().flat_map(|v| arena.real(v.buffer)).map(|x| x.to_bits()).collect()
        };
        assert!(bits(&plain) == bits(&checked), "{number}");
    }
}

#[test]
fn a_row_above_the_limit_of_a_binding_is_left_to_the_host() {
    let Some(device) = device(tight()) else { return println!("skipped: wgpu adapter is absent") };
    let wide = |dtype| {
        let mut p = Plan::new(dtype);
        let (x, y) = (p.input(2, 1500), p.output(2, 1500));
        p.done(Launch::Copy(copy::Args::new(x, y)), vec![y])
    };
    offload::note(&device, &wide(DType::F32).program);
    assert!(device.placed().unwrap().host.contains("copy"));
    agrees_on::<f32>(&device, 0.0, wide).unwrap();
}
