//! Numbers of a workgroup joined by subgroups: the same bits as by barriers, whatever a subgroup is. The adapter of the tests
//! has subgroups of one size; others are played by words of the text.

use mechgraph::device::wgpu::{Launch, Options, Subgroups, Wgpu};
use mechgraph::kernel::Params;
use mechgraph::kernel::wgsl::Transport;
use mechgraph::kernel::wgsl::probe::{REDUCE, REDUCED, ReduceParams, reduce_configuration};

use super::{adapter, open, values};

/// The adapter, where it has subgroups.
fn with_subgroups() -> Option<Wgpu> {
    let device = open(Options::default());
    let found = device.filter(|device| matches!(device.subgroups(), Subgroups::Of(_)));
    if found.is_none() {
        println!("skipped: wgpu adapter {} is absent or without subgroups", adapter());
    }
    found
}

/// Words of a text and what to put in their place.
type Changes<'a> = &'a [(&'a str, &'a str)];

/// How often invocations are told other bits by subgroups than by barriers, where the text is changed.
fn differing(device: &Wgpu, changes: Changes) -> u32 {
    let configuration = reduce_configuration();
    let mut text = REDUCE.expand(&configuration).unwrap();
    for (words, others) in changes {
        assert!(text.contains(words), "no text has '{words}'");
        text = text.replace(words, others);
    }
    let pipeline = device.pipeline_of("changed@reduce", REDUCE.name, &text, &configuration).unwrap();
    let numbers = device.buffer_of(bytemuck::cast_slice(&values(2 * REDUCED as usize, 5))).unwrap();
    let results = device.buffer(8 * u64::from(REDUCED)).unwrap();
    let (input, _) = device.bind(&numbers, 0..2 * REDUCED as usize).unwrap();
    let (output, _) = device.bind(&results, 0..2 * REDUCED as usize).unwrap();
    let launch = Launch {
        pipeline: &pipeline,
        params: &ReduceParams { count: REDUCED }.bytes(),
        transport: Transport::Uniform,
        bindings: &[input, output],
        grid: [1, 1, 1],
    };
    device.submit(&[device.record(&launch).unwrap()]).unwrap();
    let found: Vec<[u32; 2]> = bytemuck::pod_collect_to_vec(&device.download(&results, 0..8 * u64::from(REDUCED)).unwrap());
    found.iter().map(|[differing, _]| *differing).sum()
}

/// The call that is told how large a subgroup is.
const CALL: &str = "by_subgroups(pair, columns, thread, subgroup_size, subgroup_lane)";
const THERE: &str = "subgroupBallot(true)";

/// [`CALL`] with another size.
fn of_size(size: u32) -> String {
    CALL.replace("subgroup_size", &format!("{size}u"))
}

/// Invocations take other places in the tree than their subgroups suggest.
const DEALT: [(&str, &str); 2] = [
    ("by_barriers(pair, columns, thread)", "by_barriers(pair, columns, (5u * thread + 3u) % 256u)"),
    (CALL, "by_subgroups(pair, columns, (5u * thread + 3u) % 256u, subgroup_size, subgroup_lane)"),
];

#[test]
fn subgroups_of_any_size_join_numbers_to_the_same_bits() {
    let Some(device) = with_subgroups() else { return };
    assert_eq!(differing(&device, &[]), 0);
    // Fewer lanes than there are, numbers that are no power of two, more lanes than there are: those are missed and done without.
    for size in [1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 1000] {
        assert_eq!(differing(&device, &[(CALL, &of_size(size))]), 0, "subgroups of {size}");
    }
}

#[test]
fn it_does_not_matter_which_invocations_a_subgroup_has_or_how_many_are_missing() {
    let Some(device) = with_subgroups() else { return };
    assert_eq!(differing(&device, &DEALT), 0);
    for there in ["subgroup_lane < 3u", "subgroup_lane > 0u", "subgroup_lane != 1u", "(thread & 16u) == 0u", "false"] {
        let ballot = format!("subgroupBallot({there})");
        assert_eq!(differing(&device, &[(THERE, &ballot)]), 0, "{there}");
        let all = [DEALT[0], DEALT[1], (THERE, &ballot)];
        assert_eq!(differing(&device, &all), 0, "{there}, dealt");
    }
}

#[test]
fn bugs_planted_in_the_way_of_subgroups_are_caught() {
    let Some(device) = with_subgroups() else { return };
    let all_lanes = of_size(64);
    let bugs: [(&str, Changes); 12] = [
        (
            "lanes are taken for invocations",
            &[DEALT[0], DEALT[1], ("by_subgroups_parts[place]", "by_subgroups_parts[thread & (left - 1u)]")],
        ),
        ("every invocation has the first column", &[("subgroupShuffle(sum, column)", "subgroupShuffle(sum, 0u)")]),
        ("lanes keep their own column", &[DEALT[0], DEALT[1], ("subgroupShuffle(sum, column)", "sum")]),
        ("missing lanes are read", &[(CALL, &all_lanes), ("if lanes < left {", "if false {")]),
        ("the last level is left out", &[("half >= columns", "half > columns")]),
        ("levels in the other order", &[("place ^ half", "place ^ (left / 2u * columns / half)")]),
        (
            "sides are exchanged",
            &[("_join(sum, subgroupShuffle(sum, place ^ half))", "_join(subgroupShuffle(sum, place ^ half), sum)")],
        ),
        (
            "no barrier between the levels",
            &[(
                "[thread + left]);\n        }\n        workgroupBarrier();\n    }\n    let column",
                "[thread + left]);\n        }\n    }\n    let column",
            )],
        ),
        (
            "one level too few through memory",
            &[
                ("left > max(columns, subgroup_size)", "left > max(columns, 2u * subgroup_size)"),
                ("if lanes < left {", "if false {"),
            ],
        ),
        (
            "alone: sides are exchanged",
            &[(THERE, "subgroupBallot(false)"), ("_join(held[level], sum)", "_join(sum, held[level])")],
        ),
        (
            "alone: leaves in their own order",
            &[(THERE, "subgroupBallot(false)"), ("((reverseBits(leaf) >> 1u) >> countLeadingZeros(leaves))", "leaf")],
        ),
        ("alone: columns are mixed", &[(THERE, "subgroupBallot(false)"), ("column + columns * (", "column + (")]),
    ];
    let missed: Vec<&str> = bugs.iter().filter(|(_, changes)| differing(&device, changes) == 0).map(|(what, _)| *what).collect();
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

#[test]
fn an_adapter_whose_subgroups_are_wrong_is_used_without_them() {
    let Some(sound) = with_subgroups() else { return };
    assert!(sound.kernel_limits().subgroups && sound.describe().contains("; subgroups of "), "{}", sound.describe());
    for planted in [("subgroupShuffle(sum, column)", "subgroupShuffle(sum, 0u)"), ("subgroupShuffle(sum", "subgroupShuffled(sum")]
    {
        let device = open(Options { planted: Some(planted), ..Options::default() }).unwrap();
        assert_eq!((device.subgroups(), device.kernel_limits().subgroups), (Subgroups::Wrong, false));
        assert!(device.describe().ends_with("; wrong subgroups"), "{}", device.describe());
        assert_eq!(device.exactness(), sound.exactness());
    }
    let device = open(Options { subgroups: false, ..Options::default() }).unwrap();
    assert_eq!((device.subgroups(), device.kernel_limits().subgroups), (Subgroups::Absent, false));
    assert!(device.describe().ends_with("; no subgroups"), "{}", device.describe());
}
