//! Bugs planted in the text of the kernels, each of which must be caught: by a fault of the interpreter
//! or by wrong numbers, in at least one of the orders that every kernel is run in.

use ptxvm::Completion;

use super::*;

/// Which of the places a bug is planted in.
#[derive(Clone, Copy)]
enum Place {
    Every,
    First,
    Last,
}
use Place::{Every, First, Last};

/// A bug: its name, where, the sound text, the broken text.
type Bug = (&'static str, Place, &'static str, &'static str);

/// Bugs of any pipeline.
const PIPELINE: &[Bug] = &[
    ("no wait for the stage", Every, "cp.async.wait_group", "//"),
    ("no barrier before the stage is read and refilled", Every, "bar.sync        0;", ""),
    ("no groups", Every, "cp.async.commit_group;", ""),
    ("copies in flight at the end", Every, "cp.async.wait_all;", ""),
    ("the last stage is left out", Every, "setp.ne.u32     %again, %steps, 0;", "setp.gt.u32 %again, %steps, 1;"),
];

const GRAM: &[Bug] = &[
    ("rows behind the slab are read", Every, "setp.gt.s32     %within, %a_left, 0;", "setp.eq.s32 %within, %a_left, %a_left;"),
    ("columns beside x are read", Every, "max.s32         %a_inside, %a_inside, 0;", "mov.u32 %a_inside, 2;"),
    ("the last slab is not cut at the last row", Every, "min.u32         %row_end, %row_end, %rows;", ""),
    ("the tile index is not corrected", Every, "@%one_too_far sub.u32 %tile_i, %tile_i, 1;", ""),
    (
        "a tile on the diagonal reads the operand that it never copied",
        Every,
        "selp.b32        %offset, %ring, %ring_b, %diagonal;",
        "mov.u32 %offset, %ring_b;",
    ),
    (
        "every tile takes itself for one on the diagonal",
        Every,
        "setp.eq.u32     %diagonal, %tile_i, %tile_j;",
        "setp.eq.u32 %diagonal, %tile_i, %tile_i;",
    ),
    ("the slabs share their partial tiles", Every, "mad.lo.u32      %tile, %slab, %offset, %tile;", ""),
    ("steps are rounded down", First, "shr.u32         %steps, %steps,", "sub.u32 %steps, %steps, 7;\nshr.u32 %steps, %steps,"),
];

const GRAM_F64: &[Bug] = &[
    ("one wait too few", Every, "cp.async.wait_group 1;", "cp.async.wait_group 2;"),
    ("no zero fill", Every, ", 16, %bytes;", ", 16;"),
    ("the first stage multiplied is the second", Every, "mov.u32         %drain, 0;", "mov.u32 %drain, 4608;"),
    ("the ring does not wrap", Every, "setp.eq.u32     %wrap, %fill, 13824;", "setp.eq.u32 %wrap, %fill, 18432;"),
    ("a fragment is used twice", First, "{%a1}", "{%a0}"),
    ("an accumulator is written to its neighbour's place", First, "[%out_row+16]", "[%out_row+32]"),
    ("rows of a fragment are one too far", First, "[%a_at+1152]", "[%a_at+1440]"),
    ("lanes of a fragment are swapped", Every, "and.b32         %t, %g, 3;", "and.b32 %t, %g, 3;\nxor.b32 %t, %t, 1;"),
];

const GRAM_F32: &[Bug] = &[
    ("a sum is not restarted after its promotion", Last, "mov.f32         %acc3, 0f00000000;", ""),
    ("a promotion is lost", First, "add.rn.f32      %total3, %total3, %acc3;", ""),
    ("the sum behind the last promotion is lost", Last, "add.rn.f32      %total3, %total3, %acc3;", ""),
    ("a column is multiplied twice", First, "%a1, %b1,", "%a1, %b0,"),
];

const LINEAR: &[Bug] = &[
    ("one wait too few", Every, "cp.async.wait_group 2;", "cp.async.wait_group 3;"),
    ("no zero fill", Every, ", 16, %bytes;", ", 16;"),
    ("rows behind x are read", Every, "setp.gt.s32     %within, %x_inside, 0;", "setp.eq.s32 %within, %x_inside, %x_inside;"),
    ("x is read behind k", Every, "max.s32         %most, %x_left, 0;", "mov.u32 %most, 4;"),
    ("W is read one row behind k", Every, "setp.gt.s32     %within, %w_left, 8;", "setp.ge.s32 %within, %w_left, 8;"),
    ("columns beside W are read", Every, "max.s32         %w_inside, %w_inside, 0;", "mov.u32 %w_inside, 4;"),
    ("the first stage multiplied is the second", Every, "mov.u32         %drain, 0;", "mov.u32 %drain, 9216;"),
    ("the ring does not wrap", Every, "setp.eq.u32     %wrap, %fill, 36864;", "setp.eq.u32 %wrap, %fill, 46080;"),
    ("a row of W is read twice", First, "[%w_at+256]", "[%w_at+0]"),
    ("a weight of another column", First, "%xs0, %ws1,", "%xs0, %ws2,"),
    ("one row behind y is written", Every, "setp.le.s32     %within, %rows_left,", "setp.lt.s32 %within, %rows_left,"),
    ("one column beside y is written", Every, "setp.gt.s32     %within, %columns_left,", "setp.ge.s32 %within, %columns_left,"),
    (
        "the bias is read behind its end",
        Every,
        "setp.gt.and.s32 %within, %columns_left,",
        "setp.ge.and.s32 %within, %columns_left,",
    ),
    (
        "four neighbours are written where three are left",
        Every,
        "setp.le.s32     %within, %columns_left, 3;",
        "setp.lt.s32 %within, %columns_left, 3;",
    ),
    (
        "the tiles of a row of y are one",
        Every,
        "rem.u32         %tile_column, %tile_column, %column_tiles;",
        "mov.u32 %tile_column, 0;",
    ),
];

const STORE: &[Bug] = &[
    ("no bias", Every, "setp.ne.u64     %biased, %bias, 0;", "setp.ne.u64 %biased, %bias, %bias;"),
    ("`pre` is forgotten", First, "@%absent bra.uni    activate;", "bra.uni activate;"),
];

const TANGENT: &[Bug] = &[
    ("tangents get the bias", Every, "setp.ne.and.u64 %biased, %bias, 0, %first;", "setp.ne.u64 %biased, %bias, 0;"),
    ("each lane takes itself for the holder of the primal", Every, "and.b32         %holder, %holder, 13;", ""),
    (
        "the derivative at another column's primal",
        Every,
        "and.b32         %holder, %holder, 13;",
        "and.b32 %holder, %holder, 12;",
    ),
    ("the primal is scaled like a tangent", First, "selp.f32   %acc0, %value, %acc0, %first;", ""),
    ("tangents go to `pre`", Every, "selp.b32        %tokens_left, %rows_left, 0, %first;", "mov.u32 %tokens_left, %rows_left;"),
    ("one tangent is not scaled", First, "mul.rn.f32 %acc4, %acc4, %derivative;", ""),
];

/// Plants each bug in turn; `run` gives the failure of a text in an order, if it fails.
fn all_are_caught(sound: &Text, bugs: &[&[Bug]], run: impl Fn(&Text, (u64, Completion)) -> Option<Failure>) {
    for order in ORDERS {
        assert_eq!(run(sound, order), None);
    }
    for &(name, place, from, to) in bugs.iter().copied().flatten() {
        let broken = match place {
            Every => sound.with(from, to),
            First => sound.with_first(from, to),
            Last => sound.with_last(from, to),
        };
        let caught = ORDERS.iter().find_map(|&order| run(&broken, order));
        let Some(failure) = caught else { panic!("{}: nothing catches '{name}'", sound.entry) };
        assert!(!failure.starts_with("PTX line"), "'{name}' does not assemble: {failure}");
        println!("{}: {name}: {failure}", sound.entry);
    }
}

fn text(name: &str, configuration: &str) -> Text {
    let kernel = kernel(name);
    Text::of(kernel, &kernel.configuration(configuration).unwrap())
}

#[test]
fn every_bug_planted_in_gram_f64_is_caught() {
    all_are_caught(&text("gram_f64_sm80", "32x32x8-cp16"), &[PIPELINE, GRAM, GRAM_F64], |text, order| {
        gram::partials::<f64>(text, &gram::Case { rows: 150, cols: 69, slab_rows: 128, order }).err()
    });
}

#[test]
fn every_bug_planted_in_gram_f32_is_caught() {
    all_are_caught(&text("gram_f32_sm80", "32x32x8-cp16"), &[PIPELINE, GRAM, GRAM_F32], |text, order| {
        gram::partials::<f32>(text, &gram::Case { rows: 1302, cols: 69, slab_rows: 1280, order }).err()
    });
}

#[test]
fn every_bug_planted_in_linear_is_caught() {
    let run = |text: &Text, order| {
        let case = linear::Case { n: 80, k: 72, m: 71, bias: true, pre: true, order };
        linear::run::<f32>(text, &case).err()
    };
    all_are_caught(&text("linear_f32_sm80", "64x64x16-nn-cp16-store-gelu"), &[PIPELINE, LINEAR, STORE], run);
    all_are_caught(&text("linear_f32_sm80", "64x64x16-nn-cp16-tangent-silu"), &[TANGENT], run);
}

const LINEAR_F64: &[Bug] = &[
    ("one wait too few", Every, "cp.async.wait_group 1;", "cp.async.wait_group 2;"),
    ("no zero fill", Every, ", 16, %bytes;", ", 16;"),
    ("x is read behind k", Every, "max.s32         %most, %x_left, 0;", "mov.u32 %most, 2;"),
    ("columns beside W are read", Every, "max.s32         %w_inside, %w_inside, 0;", "mov.u32 %w_inside, 2;"),
    ("a fragment is used twice", First, "{%xs1}", "{%xs0}"),
    ("k of the fragments differ", Every, "mad.lo.u32      %first, %across, 68, %first;", ""),
    ("columns of a fragment are one too far", First, "[%w_at+64]", "[%w_at+72]"),
    (
        "the pairs of a row change places",
        Every,
        "mad.lo.u32      %column, %across, 2, %column;",
        "mad.lo.u32 %column, %across, 1, %column;",
    ),
    ("one row behind y is written", Every, "setp.le.s32     %within, %rows_left,", "setp.lt.s32 %within, %rows_left,"),
    (
        "two neighbours are written where one is left",
        Every,
        "setp.le.s32     %within, %columns_left, 25;",
        "setp.lt.s32 %within, %columns_left, 25;",
    ),
];

const TANGENT_F64: &[Bug] = &[
    ("each lane takes itself for the holder of the primal", Every, "and.b32         %holder, %holder, 3;", ""),
    ("half of the primal is another's", Every, "shfl.sync.idx.b32 %lower, %lower,", "shfl.sync.up.b32 %lower, %lower,"),
    ("tangents get the bias", Every, "setp.ne.and.u64 %biased, %bias, 0, %first;", "setp.ne.u64 %biased, %bias, 0;"),
    ("one tangent is not scaled", First, "mul.rn.f64 %acc8, %acc8, %derivative;", ""),
];

#[test]
fn every_bug_planted_in_linear_f64_is_caught() {
    let run = |text: &Text, order| {
        let case = linear::Case { n: 80, k: 39, m: 89, bias: true, pre: true, order };
        linear::run::<f64>(text, &case).err()
    };
    all_are_caught(&text("linear_f64_sm80", "64x64x16-nn-cp16-store-gelu"), &[PIPELINE, LINEAR_F64, STORE], run);
    all_are_caught(&text("linear_f64_sm80", "64x64x16-nn-cp16-tangent-silu"), &[TANGENT_F64], run);
}

const PRODUCT: &[Bug] = &[
    ("one wait too few", Every, "cp.async.wait_group 2;", "cp.async.wait_group 3;"),
    ("no zero fill", Every, ", 4, %bytes;", ", 4;"),
    ("A and B are read behind k", Every, "setp.gt.s32     %within, %left, 0;", "setp.ge.s32 %within, %left, 0;"),
    (
        "rows behind A are read",
        Every,
        "setp.gt.and.s32 %within, %inside, 0, %within;",
        "setp.ge.and.s32 %within, %inside, 0, %within;",
    ),
    ("the ring does not wrap", Every, "setp.eq.u32     %wrap, %fill, 17408;", "setp.eq.u32 %wrap, %fill, 21760;"),
    ("a column is multiplied twice", First, "%as0, %bs1,", "%as0, %bs0,"),
    ("a sum is not restarted after its promotion", Last, "mov.f32    %acc3, 0f00000000;", ""),
    ("a promotion is lost", First, "add.rn.f32 %total3, %total3, %acc3;", ""),
    ("the scale is forgotten", First, "fma.rn.f32 %value, %alpha, %total0,", "add.rn.f32 %value, %total0,"),
    (
        "one column beside C is written",
        Last,
        "setp.gt.and.s32 %within, %columns_left,",
        "setp.ge.and.s32 %within, %columns_left,",
    ),
    ("one row behind C is written", Last, "setp.gt.s32     %row_within, %rows_left,", "setp.ge.s32 %row_within, %rows_left,"),
    (
        "the element right of the diagonal is written",
        Last,
        "setp.le.and.s32 %within, %over, -1,",
        "setp.le.and.s32 %within, %over, 0,",
    ),
    ("a batch index of B is forgotten", Last, "mad.lo.s64      %b, %apart, 4, %b;", ""),
];

#[test]
fn every_bug_planted_in_product_is_caught() {
    let run = |text: &Text, order| {
        let turned = product::Case {
            batch: [1, 1, 2],
            m: 49,
            n: 49,
            k: 530,
            turned: [false, true, false],
            lower: true,
            accumulate: true,
            order,
        };
        let plain = product::Case { batch: [1; 3], lower: false, accumulate: false, ..turned };
        product::run::<f32>(text, &turned).and_then(|_| product::run::<f32>(text, &plain)).err()
    };
    all_are_caught(&text("product_sm80", "32x32-f32"), &[PIPELINE, PRODUCT], run);
}
