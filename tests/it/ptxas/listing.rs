//! Reads what the assembler and the disassembler print.

/// What `ptxas -v` says of one entry function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Registers a thread.
    pub registers: u32,
    /// Barriers a CTA.
    pub barriers: u32,
    /// Bytes of static shared memory a CTA.
    pub shared: u32,
    /// Bytes of the stack frame a thread.
    pub stack: u32,
    /// Bytes of spill stores and spill loads.
    pub spills: u32,
}

/// The resources of the entry `name`, or what is wrong with the output: a warning, another entry, a
/// line that is missing.
pub fn resources(output: &str, name: &str) -> Result<Resources, String> {
    if let Some(line) = output.lines().find(|l| ["warning", "error", "fatal"].iter().any(|w| l.contains(w))) {
        return Err(line.trim().to_string());
    }
    let entries: Vec<&str> = output.lines().filter_map(|l| l.split_once("Compiling entry function '")).map(|(_, l)| l).collect();
    match entries[..] {
        [entry] if entry.split('\'').next() == Some(name) => {}
        _ => return Err(format!("entry functions {entries:?}; expected {name} alone")),
    }
    let line = |part: &str| output.lines().find(|l| l.contains(part)).ok_or_else(|| format!("no line with '{part}' in {output}"));
    let (frame, used) = (line("bytes stack frame")?, line(" registers")?);
    let number = |text: &str, unit: &str| {
        let before = text.split(',').find_map(|part| part.trim().strip_suffix(unit))?;
        before.split_whitespace().last()?.parse().ok()
    };
    let need = |text: &str, unit: &str| number(text, unit).ok_or_else(|| format!("no number of{unit} in '{text}'"));
    Ok(Resources {
        registers: need(used, " registers")?,
        // A kernel without barriers or shared memory has no word of them.
        barriers: number(used, " barriers").unwrap_or(0),
        shared: number(used, " bytes smem").unwrap_or(0),
        stack: need(frame, " bytes stack frame")?,
        spills: need(frame, " bytes spill stores")? + need(frame, " bytes spill loads")?,
    })
}

/// The mnemonics of a disassembly, in the order of the code, predicates left out: `LDGSTS.E.BYPASS.128`.
pub fn mnemonics(listing: &str) -> Vec<&str> {
    let code = |line| Some(str::trim_start(line).strip_prefix("/*")?.split_once("*/")?.1);
    let instructions = listing.lines().filter_map(code);
    let words = instructions.filter_map(|text: &str| text.split_whitespace().find(|w| !w.starts_with('@')));
    words.filter(|w| w.starts_with(|c: char| c.is_ascii_uppercase())).map(|w| w.trim_end_matches(';')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "ptxas info    : 0 bytes gmem\n\
        ptxas info    : Compiling entry function 'k' for 'sm_80'\n\
        ptxas info    : Function properties for k\n    \
        8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n\
        ptxas info    : Used 14 registers, used 1 barriers, 8 bytes cumulative stack size, 1024 bytes smem, 368 bytes cmem[0]\n\
        ptxas info    : Compile time = 8.282 ms\n";

    #[test]
    fn every_figure_of_the_assembler_is_read() {
        let expected = Resources { registers: 14, barriers: 1, shared: 1024, stack: 8, spills: 16 };
        assert_eq!(resources(OUTPUT, "k"), Ok(expected.clone()));
        let bare = OUTPUT.replace(", used 1 barriers", ", used 0 barriers").replace(" 1024 bytes smem,", "");
        assert_eq!(resources(&bare, "k"), Ok(Resources { barriers: 0, shared: 0, ..expected }));
    }

    #[test]
    fn outputs_that_promise_nothing_are_errors() {
        let error = |output: &str| resources(output, "k").unwrap_err();
        assert!(resources(OUTPUT, "other").unwrap_err().contains("expected other alone"));
        assert!(error("").contains("expected k alone"));
        assert!(error(&OUTPUT.repeat(2)).contains("expected k alone"));
        assert!(error(&OUTPUT.replace("stack frame", "frame")).contains("no line with 'bytes stack frame'"));
        assert!(error(&OUTPUT.replace(" spill loads", "")).contains("spill loads"));
        assert!(error(&OUTPUT.replace("14 registers", "x registers")).contains("registers"));
        let warning = "ptxas warning : (C7508) Potential Performance Loss: 'setmaxnreg' ignored";
        assert_eq!(error(&format!("{OUTPUT}{warning}\n")), warning);
        assert!(error("ptxas t.ptx, line 14; error   : Unknown modifier '.foo'").contains("line 14"));
    }

    #[test]
    fn mnemonics_are_read_without_predicates_operands_and_notes() {
        let listing = "\t.headerflags\t@\"EF_CUDA_SM80\"\n\n.text.k:\n        /*0000*/                   MOV R1, c[0x0][0x28] ;\n        \
            /*0010*/              @!P0 BRA `(.L_x_0) ;\n        /*0020*/               @P1 LDGSTS.E.BYPASS.128 [R5], [R2.64] ;\n\
            .L_x_0:\n        /*0030*/                   EXIT ;\n        /*0040*/                   NOP;\n\t.L_x_1:\n";
        assert_eq!(mnemonics(listing), ["MOV", "BRA", "LDGSTS.E.BYPASS.128", "EXIT", "NOP"]);
    }
}
