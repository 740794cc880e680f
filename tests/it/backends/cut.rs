//! Operations whose operands exceed what a binding of a wgpu adapter holds: cut into launches, nothing is left to the host.

use mechgraph::device::wgpu::Options;
use mechgraph::device::{DType, Device};
use mechgraph::ops::activation::Activation;
use mechgraph::ops::offload;

use super::against_cpu::{Case, agrees_on};
use super::planted::wgpu_with;
use super::products::{Make, cross, turned};
use super::sections::{Edges, Norm, mlp_moments, norm_rows, of_norm, rank_one, squares};
use super::{chunks, loss};

/// A device whose bindings hold `elements` numbers, wherever they begin.
fn small(elements: u64) -> Option<Device> {
    wgpu_with(Options { largest_binding: Some(4 * elements + 256), ..Options::default() })
}

fn stays_on(device: &Device, what: &str, bar: f64, make: Make) {
    let build = |dtype| make(dtype, DType::F32);
    offload::note(device, &build(DType::F32).program);
    let host = device.placed().map(|placed| placed.host).unwrap_or_default();
    assert!(host.is_empty(), "{what}: {host:?} on the host");
    agrees_on::<f32>(device, bar, build).unwrap_or_else(|why| panic!("{what}: {why}"));
}

#[test]
fn wgpu_operands_above_the_limit_of_a_binding_are_cut() {
    let Some(device) = small(1024) else { return };
    stays_on(&device, "cross", 1e-6, &cross(140, 33, 37, true));
    stays_on(&device, "turned", 1e-6, &turned(8, 300));
    stays_on(&device, "moments", 1e-6, &mlp_moments(200, 7, Activation::Silu, true, true));
    stays_on(&device, "first half", 5e-6, &of_norm(Norm::First, 200, 9, true));
    stays_on(&device, "second half", 5e-6, &of_norm(Norm::Second, 200, 9, true));
    stays_on(&device, "norm", 5e-6, &of_norm(Norm::Whole, 120, 9, true));
    stays_on(&device, "rows of a norm", 5e-6, &norm_rows(Norm::Whole, 200, 9, true));
    stays_on(&device, "squares", 1e-6, &squares(Edges([200, 5, 7, 6]), Activation::Gelu, true, true));
    stays_on(&device, "rank one", 1e-6, &rank_one(Edges([300, 0, 7, 6]), false, true));
    let of = |f: &dyn Fn(DType) -> Case| f(DType::F32);
    let field = (20, 5, 3, 9, 6);
    let plain: [(&str, &dyn Fn(DType) -> Case); 5] = [
        ("tangents", &|dtype| chunks::tangents(dtype, field, 1)),
        ("cotangents", &|dtype| chunks::cotangents(dtype, (10, 5, 5, 9, 2), true, 0)),
        ("sums of cotangents", &|dtype| chunks::cotangents(dtype, (10, 5, 5, 9, 2), false, 1)),
        ("loss", &|dtype| loss::loss(dtype, (200, 41))),
        ("loss of runs", &|dtype| loss::of_runs(dtype, (37, 41), 1)),
    ];
    for (what, make) in plain {
        let largest = of(make).inputs.iter().map(|(v, _)| v.rows * v.cols).max().unwrap();
        assert!(largest > 1024, "{what}: nothing to cut");
        stays_on(&device, what, 1e-6, &|dtype, _| make(dtype));
    }
}

#[test]
fn wgpu_samples_above_the_limit_of_a_binding_are_cut() {
    let Some(device) = small(8192) else { return };
    let shape = (9, 70, 3, 31);
    stays_on(&device, "peaks", 0.0, &|dtype, _| loss::largest(dtype, shape, false).case);
    loss::largest(DType::F32, shape, false).agrees_on::<f32>(&device).unwrap();
}
