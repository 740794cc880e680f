//! Attention in WGSL gives the same bits whether it reads elements or quads, and however many columns of a head a workgroup
//! has; bugs planted in either are caught.

use mechgraph::ops::sdpa;

use super::attention::{Case, DENSE, Packed, compare, packed, shape};
use super::planted::{Bug, all_caught_on_wgpu, bug, run_on_with_ints};
use super::{Backend, run_with_ints};

/// The bits of every output, of each head's first `width` columns.
fn bits(backend: Backend, case: &Case, width: usize) -> Vec<(&'static str, Vec<u32>)> {
    let found = run_with_ints::<f32>(backend, &case.program, &case.inputs, &case.ints, &[]);
    let of = |views: &[mechgraph::device::View]| {
        let rows = views.iter().flat_map(|v| (0..v.rows).map(move |i| (v, i)));
        rows.flat_map(|(v, i)| found.row(v, i).iter().take(width).map(|x| x.to_bits())).collect()
    };
    case.outputs.iter().map(|(name, views)| (*name, of(views))).collect()
}

fn same(what: &str, expected: &[(&str, Vec<u32>)], found: &[(&str, Vec<u32>)]) {
    for ((name, expected), (_, found)) in expected.iter().zip(found) {
        assert!(expected == found, "{what}: other bits of {name}");
    }
}

fn capped(heads: usize, kv_heads: usize, d_head: usize, d_v: usize) -> Packed {
    let shape = sdpa::Shape { softcap: Some(1.4), ..shape(heads, kv_heads, d_head, d_v) };
    Packed { lengths: vec![9, 35], queries: None, hidden: vec![3], shape, probes: 2, around: DENSE }
}

#[test]
fn wgpu_heads_that_do_not_begin_at_quads_have_the_bits_of_those_that_do() {
    Backend::Llvmpipe.hold(|backend| {
        let plain = capped(4, 2, 12, 8);
        let expected = bits(backend, &packed::<f32>(&plain), usize::MAX);
        // Whole quads; then the first head, the distance of heads, or that of rows is none.
        let wider = Packed { around: [[4, 4, 8]; 3], ..plain.clone() };
        same("whole quads", &expected, &bits(backend, &packed::<f32>(&wider), usize::MAX));
        for around in [[1, 0, 3], [0, 2, 0], [0, 0, 1]] {
            for operand in 0..3 {
                let mut other = plain.clone();
                other.around[operand] = around;
                let found = bits(backend, &packed::<f32>(&other), usize::MAX);
                same(&format!("operand {operand}, {around:?}"), &expected, &found);
            }
        }
    });
}

/// The program for heads of `width` columns, behind the numbers of a narrower one zeros.
fn padded(narrow: &Case, width: usize) -> Case {
    let p = capped(1, 1, width, width);
    let mut case = packed::<f32>(&p);
    for ((view, data), (of_narrow, first)) in case.inputs.iter_mut().zip(&narrow.inputs) {
        let rows = data.chunks_mut(view.cols).zip(first.chunks(of_narrow.cols));
        rows.for_each(|(row, first)| {
            row.fill(0.0);
            row[..first.len()].copy_from_slice(first);
        });
    }
    case
}

#[test]
fn wgpu_columns_of_zeros_change_no_bits_whatever_tile_they_make_a_head_take() {
    Backend::Llvmpipe.hold(|backend| {
        let narrow = packed::<f32>(&capped(1, 1, 20, 20));
        let expected = bits(backend, &narrow, 20);
        for width in [21, 48, 63, 100, 101, 132, 257] {
            same(&format!("{width} columns"), &expected, &bits(backend, &padded(&narrow, width), 20));
        }
    });
}

const FORWARD: &str = "attention_forward_f32";
const PATTERN: &str = "attention_pattern_f32";
const TANGENT: &str = "attention_tangent_f32";
const QUERIES: &str = "attention_queries_f32";
const KEYS: &str = "attention_keys_f32";

const BUGS: [Bug; 19] = [
    bug(FORWARD, "the quad behind is read", "return q[at / 4u];", "return q[at / 4u + 1u];"),
    bug(FORWARD, "columns of the next head count", "column < width {\n        return", "column < width + 4u {\n        return"),
    bug(FORWARD, "quads of a result lie side by side", "z[at + 8u] = acc1_0;", "z[at + 1u] = acc1_0;"),
    bug(
        FORWARD,
        "a row is stored in place of another",
        "first + line + 8u) * p.z_row + 64u",
        "first + line + 16u) * p.z_row + 64u",
    ),
    bug(FORWARD, "the second piece is the first", "128u * chunk + 64u, p.d_v", "128u * chunk, p.d_v"),
    bug(
        FORWARD,
        "no barrier before a piece is staged over the last",
        "workgroupBarrier();\n            copy_v(thread, 0u, 32u, WIDE, WIDE, v_base, tile, stop, 128u * chunk + 64u",
        "copy_v(thread, 0u, 32u, WIDE, WIDE, v_base, tile, stop, 128u * chunk + 64u",
    ),
    bug(
        FORWARD,
        "no barrier before a piece is read",
        "128u * chunk + 64u, p.d_v);\n            workgroupBarrier();",
        "128u * chunk + 64u, p.d_v);",
    ),
    bug(
        FORWARD,
        "the last columns of scores are left out",
        "start < p.d_head; start += 16u",
        "start + 16u < p.d_head; start += 16u",
    ),
    bug(PATTERN, "the quad behind is read", "return k[at / 4u];", "return k[at / 4u + 1u];"),
    bug(TANGENT, "quads of other columns", "return dv[at / 4u];", "return dv[(at - column) / 4u];"),
    bug(TANGENT, "the second piece of the changes is the first", "128u * chunk + 64u, p.d_v", "128u * chunk + 0u, p.d_v"),
    bug(TANGENT, "columns behind the head are stored", "if 64u * chunk + 4u * (lane + 8u) < p.d_v {", "if true {"),
    bug(
        QUERIES,
        "the second piece joins the first",
        "acc2_1 = fma(vec4<f32>(w[1]), x0, acc2_1);",
        "acc0_1 = fma(vec4<f32>(w[1]), x0, acc0_1);",
    ),
    bug(TANGENT, "two rows have the same weights", "weights[16u * (lane + 8u) + line] = w1;", "weights[16u * (lane + 8u)] = w1;"),
    bug(
        TANGENT,
        "of two rows one sees what another does",
        "high[1] = table[p.table_offset + p.m + first + line + 16u];",
        "high[1] = high[0];",
    ),
    bug(TANGENT, "one row's sum is all rows'", "total += best[16u * other + line];", "total += best[16u * other];"),
    bug(QUERIES, "quads of a cotangent lie side by side", "dq[at + 16u] = acc2_0;", "dq[at + 8u] = acc2_0;"),
    bug(KEYS, "weights of the changes lie among the patterns", "const CHANGES = 256u;", "const CHANGES = 0u;"),
    bug(KEYS, "the cotangents of a piece of values are lost", "dv[at + 16u] = base2_1;", "dv[at + 16u] = base1_1;"),
];

#[test]
fn wgpu_bugs_planted_in_quads_and_pieces_are_caught() {
    let wide = Packed { lengths: vec![20], hidden: vec![], ..capped(2, 1, 76, 72) };
    let cases = [capped(2, 1, 12, 40), wide];
    let cases = cases.map(|p| packed::<f32>(&p));
    all_caught_on_wgpu(&BUGS, |device| {
        cases.iter().try_for_each(|case| {
            let arena = run_on_with_ints::<f32>(device, &case.program, &case.inputs, &case.ints)?;
            compare("planted", case, &arena)
        })
    });
}
