//! Bugs planted into the kernels' texts: each must show in the numbers, in what lies around the result,
//! or as an error, or these tests would not notice it in earnest either.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mechgraph::device::wgpu::Options;
use mechgraph::kernel::linear::{Elementwise, Epilogue};
use mechgraph::kernel::wgsl::KERNELS;
use mechgraph::kernel::wgsl::gram::{Arithmetic, Product};
use mechgraph::ops::linear_wgpu::Road;

use super::linear::case;
use super::{device, gram, open};

/// Kernel, configuration, words of its text, and what a bug puts in their place.
type Bug = (&'static str, &'static str, &'static str, &'static str);

const LINEAR: [Bug; 9] = [
    (
        "no barrier before the products",
        "32x32x16-nn-v1-store-gelu-immediates",
        "stage_w(thread, left, p.m, k);\n        workgroupBarrier();",
        "stage_w(thread, left, p.m, k);",
    ),
    (
        "no barrier after the products",
        "32x32x16-nn-v1-store-gelu-immediates",
        "        }\n        workgroupBarrier();\n    }\n",
        "        }\n    }\n",
    ),
    (
        "the last column is dropped",
        "32x32x16-nn-v1-store-gelu-immediates",
        "c < 4u && column + c < p.m",
        "c < 4u && column + c + 1u < p.m",
    ),
    ("a column too many", "32x32x16-nn-v1-store-gelu-immediates", "c < 4u && column + c < p.m", "c < 4u && column + c <= p.m"),
    ("the last row is dropped", "32x32x16-nn-v1-store-gelu-immediates", "if row >= p.n {", "if row + 1u >= p.n {"),
    (
        "the last quad of k is ragged but read whole",
        "32x32x16-nn-v1-store-gelu-immediates",
        "if column + 3u < cols {",
        "if column < cols {",
    ),
    (
        "the places of quads disagree",
        "32x32x16-nn-v1-store-gelu-immediates",
        "let x_0 = x_tile[place(d, 0u * HIGH + local.y, ROWS / 4u)];",
        "let x_0 = x_tile[d * (ROWS / 4u) + local.y];",
    ),
    ("no bias", "32x32x16-nn-v1-store-gelu-immediates", "value += bias[p.bias_offset + column + c];", ""),
    (
        "pre after the activation",
        "32x32x16-nn-v1-store-gelu-immediates",
        "p.pre_stride + column + c] = value;",
        "p.pre_stride + column + c] = act(value);",
    ),
];

const TANGENT: [Bug; 3] = [
    (
        "no barrier before primals are written",
        "32x32x16-nn-v1-tangent-gelu-immediates",
        "        }
        workgroupBarrier();
    }
",
        "        }
    }
",
    ),
    (
        "the primal of a neighbouring slab",
        "32x32x16-nn-v1-tangent-gelu-immediates",
        "x_tile[(0u * HIGH + local.y) / 4u * (COLS / 4u) + 0u * WIDE + local.x],\n    );",
        "x_tile[((0u * HIGH + local.y) / 4u ^ 1u) * (COLS / 4u) + 0u * WIDE + local.x],\n    );",
    ),
    (
        "the value in the place of the slope",
        "32x32x16-nn-v1-tangent-gelu-immediates",
        "act_slope(value) * z[c]",
        "act(value) * z[c]",
    ),
];

const GRAM: [Bug; 9] = [
    (
        "no barrier before the products",
        "32x32x16-v1-split-immediates",
        "        }\n        workgroupBarrier();\n\n",
        "        }\n",
    ),
    (
        "no barrier after the products",
        "32x32x16-v1-split-immediates",
        "        workgroupBarrier();\n    }\n\n    let at",
        "    }\n\n    let at",
    ),
    (
        "the low parts of the centred rows are lost",
        "32x32x16-v1-split-immediates",
        "tile_low[half + item] = centred.low;",
        "tile_low[half + item] = vec4<f32>();",
    ),
    (
        "the errors of sums are lost",
        "32x32x16-v1-split-immediates",
        "sum.low + (total.low + fma(error",
        "sum.low + (0.0 * total.low + fma(error",
    ),
    ("the errors of products are lost", "32x32x16-v1-split-immediates", "fma(error, vec4<f32>(p.one), cross)", "cross"),
    ("the low part of the mean is lost", "32x32x16-v1-split-immediates", "difference.low - centre.low", "difference.low"),
    ("the low plane is not stored", "32x32x16-v1-split-immediates", "SIDE] = sum_1.low;", "SIDE] = vec4<f32>();"),
    (
        "a slab takes a row of the next",
        "32x32x16-v1-split-immediates",
        "let end = min(p.rows, (slab + 1u) * p.slab_rows);",
        "let end = min(p.rows, (slab + 1u) * p.slab_rows + 1u);",
    ),
    (
        "the diagonal in the place of the tile below it",
        "32x32x16-v1-split-immediates",
        "let tj = t - ti * (ti + 1u) / 2u;",
        "let tj = ti;",
    ),
];

const CENTRE: [Bug; 3] = [
    ("no barrier before lanes are added", "immediates", "    workgroupBarrier();\n", ""),
    ("the last lane is dropped", "immediates", "lane < 16u", "lane < 15u"),
    ("the errors of differences are lost", "immediates", "(total.low + difference.low)", "total.low"),
];

/// What is wrong with the results on a device with the bug, if anything.
fn noticed(kernel: &str, bugs: &[Bug], check: impl Fn(&mechgraph::device::wgpu::Wgpu) -> Option<String>) {
    let kernel = KERNELS.iter().find(|k| k.name == kernel).unwrap();
    assert_eq!(check(device().unwrap()), None, "{} as it stands", kernel.name);
    for &(what, configuration, words, bug) in bugs {
        let text = kernel.expand(&kernel.configuration(configuration).unwrap()).unwrap();
        assert!(text.contains(words), "{what}: the text has no '{words}'");
        let device = open(Options { planted: Some((words, bug)), ..Options::default() }).unwrap();
        // A write outside of the result stops the reading of it.
        let found = catch_unwind(AssertUnwindSafe(|| check(&device))).unwrap_or_else(|_| Some("a write outside".into()));
        let found = found.unwrap_or_else(|| panic!("{}: {what}: not noticed", kernel.name));
        println!("{}: {what}: {found}", kernel.name);
    }
}

#[test]
fn planted_bugs_in_linear_are_noticed() {
    if device().is_none() {
        return;
    }
    let store = case(37, 35, 39, Epilogue::Store(Elementwise::Gelu));
    let check = |case: super::linear::Case| {
        move |device: &mechgraph::device::wgpu::Wgpu| {
            let error = case.error(&case.run(device, Road::Tile(32, 32)));
            (error.is_nan() || error > 1e-6).then(|| format!("error {error:.1e}"))
        }
    };
    noticed("linear_f32", &LINEAR, check(store));
    noticed("linear_f32", &TANGENT, check(case(48, 35, 39, Epilogue::Tangent(Elementwise::Gelu))));
}

#[test]
fn planted_bugs_in_gram_are_noticed() {
    if device().is_none() {
        return;
    }
    let (rows, cols) = (1000, 37);
    let x = gram::hard(rows, cols);
    let wanted = gram::reference(&x, cols);
    let split = Arithmetic::Compensated(Product::Split);
    let check = |device: &mechgraph::device::wgpu::Wgpu| {
        let found = gram::run(device, &x, cols, (3, 2), split, Some(32));
        let [mean, gram, element] = gram::errors(&found, &wanted);
        let wrong = !(mean <= 1e-12 && gram <= split.bound() && element <= split.bound());
        wrong.then(|| format!("mean {mean:.1e}, Frobenius {gram:.1e}, element {element:.1e}"))
    };
    noticed("gram_f32", &GRAM, check);
    noticed("centre_f32", &CENTRE, check);
}
