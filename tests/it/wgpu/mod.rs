//! The wgpu backend on Mesa's software adapter: the launchers against f64 references, with every
//! buffer poisoned first, and what the device does when something goes wrong.
//!
//! Where the adapter is absent each test prints `skipped: wgpu ..` and does nothing. With
//! `MECHGRAPH_ADAPTER=NAME` the operations are held to their bounds on that adapter instead, which may
//! not be absent.

mod activations;
mod cooperative;
mod cut;
mod device;
mod gram;
mod linear;
mod narrow;
mod planted;
mod subgroups;

use std::sync::OnceLock;

use mechgraph::device::Stored;
use mechgraph::device::wgpu::{Options, View, Wgpu, WgpuBuffer};

use super::backends::adapter;
use super::naive::Numbers;

const ADAPTER: &str = "llvmpipe";

/// The adapter with the usual options, opened once.
fn device() -> Option<&'static Wgpu> {
    static DEVICE: OnceLock<Option<Wgpu>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| open(Options::default()));
    if device.is_none() {
        println!("skipped: wgpu adapter {} is absent", adapter());
    }
    device.as_ref()
}

/// The adapter; `None` where it is the software adapter and absent.
fn open(options: Options) -> Option<Wgpu> {
    let (name, named) = (adapter(), std::env::var_os("MECHGRAPH_ADAPTER").is_some());
    let there = named || Wgpu::adapters().iter().any(|a| a.name.contains(&name));
    there.then(|| Wgpu::open_with(Some(&name), options).unwrap())
}

/// A matrix inside a buffer whose other elements, and at first its own, are NaN.
struct Matrix {
    buffer: WgpuBuffer,
    len: usize,
    offset: usize,
    rows: usize,
    cols: usize,
    stride: usize,
}

/// Marks what nobody may write: a NaN that no operation yields.
const POISON: u32 = 0x7fc5_a5a5;

impl Matrix {
    /// With the rows of `data`, or poisoned where there is none; `place` = (offset, elements between rows).
    fn new(device: &Wgpu, rows: usize, cols: usize, place: (usize, usize), data: Option<&[f32]>) -> Self {
        let (offset, stride) = (place.0, cols + place.1);
        let len = offset + rows * stride + 5;
        let mut all = vec![POISON; len];
        for (i, row) in data.unwrap_or_default().chunks(cols.max(1)).enumerate() {
            let bits = row.iter().map(|x| x.to_bits());
            all[offset + i * stride..].iter_mut().zip(bits).for_each(|(a, b)| *a = b);
        }
        let buffer = device.buffer_of(bytemuck::cast_slice(&all)).unwrap();
        Self { buffer, len, offset, rows, cols, stride }
    }
    fn view(&self) -> View<'_> {
        View {
            buffer: &self.buffer,
            offset: self.offset,
            rows: self.rows,
            cols: self.cols,
            stride: self.stride,
            stored: Stored::F32,
        }
    }
    /// Its elements, after a check that everything around them is as it was.
    fn read(&self, device: &Wgpu) -> Vec<f32> {
        let all = device.download_f32(&self.buffer, 0..self.len).unwrap();
        let mut found = Vec::new();
        for (at, x) in all.into_iter().enumerate() {
            let place = at.checked_sub(self.offset).map(|a| (a / self.stride.max(1), a % self.stride.max(1)));
            if place.is_some_and(|(row, column)| row < self.rows && column < self.cols) {
                found.push(x);
            } else {
                assert_eq!(x.to_bits(), POISON, "element {at} outside of [{}, {}] was written", self.rows, self.cols);
            }
        }
        found
    }
}

/// f32 values in [-1, 1).
fn values(n: usize, seed: u64) -> Vec<f32> {
    Numbers::new(seed).many(n).into_iter().map(|x| x as f32).collect()
}

/// Relative Frobenius distance of `found` from `wanted`.
fn distance(found: impl IntoIterator<Item = f64>, wanted: &[f64]) -> f64 {
    let found: Vec<f64> = found.into_iter().collect();
    assert_eq!(found.len(), wanted.len());
    let square = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>();
    let norm = square(&mut wanted.iter().copied());
    let error = square(&mut found.iter().zip(wanted).map(|(f, w)| f - w));
    if norm == 0.0 { error.sqrt() } else { (error / norm).sqrt() }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
