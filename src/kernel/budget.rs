//! The budget of every PTX kernel: what its assembled code may take of a multiprocessor, and the
//! machine instructions it must hold. This module reads the committed figures and measures nothing:
//! `tests/it/ptxas` holds the assemblers to them.

use serde::Deserialize;

use super::registry::{Configuration, Kernel};
use crate::error::{Error, Result};

/// The committed file.
const FILE: &str = "kernels/budget.toml";

/// A line of the budget: what the configurations of one pattern may take, whatever the target.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Key of the kernel.
    pub kernel: String,
    /// Names of configurations; `*` stands for any characters.
    pub configurations: String,
    /// The most registers a thread.
    pub registers: u32,
    /// The most bytes of shared memory a CTA, static and dynamic together.
    pub shared: u32,
    /// The most hardware barriers a CTA.
    pub barriers: u32,
    /// Patterns of machine instructions, each of which must be there: `LDGSTS*.128`.
    #[serde(default)]
    pub instructions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    budget: Vec<Budget>,
}

/// Every line of the committed budget.
pub fn all() -> Result<Vec<Budget>> {
    parse(include_str!("../../kernels/budget.toml"))
}

/// Every line of a budget file.
pub fn parse(text: &str) -> Result<Vec<Budget>> {
    let file: File = toml::from_str(text).map_err(|e| {
        Error::file(FILE.as_ref(), e.message(), "[[budget]] with kernel, configurations, registers, shared, barriers")
    })?;
    Ok(file.budget)
}

/// The one line that holds for a configuration; none or several are an error.
pub fn of<'a>(budgets: &'a [Budget], kernel: &str, configuration: &str) -> Result<&'a Budget> {
    let fits = |b: &&Budget| b.kernel == kernel && matches(&b.configurations, configuration);
    let mut fitting = budgets.iter().filter(fits);
    match (fitting.next(), fitting.count()) {
        (Some(budget), 0) => Ok(budget),
        (first, others) => {
            let count = others + usize::from(first.is_some());
            Err(Error::file(FILE.as_ref(), format!("{count} lines for {kernel}@{configuration}"), "exactly one"))
        }
    }
}

/// The lines that hold for no configuration of any of `kernels`: what was left behind by a change.
pub fn unused<'a>(budgets: &'a [Budget], kernels: &[(&Kernel, Vec<Configuration>)]) -> Vec<&'a Budget> {
    let used = |b: &Budget| {
        let mut names = kernels.iter().filter(|(k, _)| k.name == b.kernel).flat_map(|(_, c)| c);
        names.any(|c| matches(&b.configurations, &c.name))
    };
    budgets.iter().filter(|b| !used(b)).collect()
}

/// Whether `pattern`, in which `*` stands for any characters or none, is the whole of `text`.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    (0..=text.len()).filter(|&i| text.is_char_boundary(i)).any(|i| matches(rest, &text[i..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "[[budget]]\nkernel = 'k'\nconfigurations = '64x*-cp16'\nregisters = 128\nshared = 4096\nbarriers = 1\n\
                         instructions = ['FFMA*']\n[[budget]]\nkernel = 'k'\nconfigurations = '*-cp4'\nregisters = 64\n\
                         shared = 0\nbarriers = 1\n";

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*-cp16", "64x64-cp16", true),
            ("64*-*-cp16", "64x64-cp16", false),
            ("LDGSTS*.128", "LDGSTS.E.BYPASS.128", true),
            ("a*é", "aéé", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_configuration_has_exactly_one_line() {
        let budgets = parse(LINES).unwrap();
        assert_eq!(of(&budgets, "k", "64x64-cp16").unwrap().registers, 128);
        assert_eq!(of(&budgets, "k", "64x64-cp4").unwrap().instructions, [""; 0]);
        let message = |kernel, name| of(&budgets, kernel, name).unwrap_err().to_string();
        assert_eq!(message("k", "32x32-cp16"), "kernels/budget.toml: 0 lines for k@32x32-cp16; expected exactly one");
        assert!(message("other", "64x64-cp4").contains("0 lines for other@64x64-cp4"));
        let twice = [&budgets[..], &budgets[..1]].concat();
        assert!(of(&twice, "k", "64x1-cp16").unwrap_err().to_string().contains("2 lines for k@64x1-cp16"));
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        for (from, to) in [("registers", "register"), ("128", "-1"), ("[[budget]]\nkernel = 'k'", "[[budgets]]\nkernel = 'k'")] {
            let message = parse(&LINES.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.starts_with("kernels/budget.toml: "), "{message}");
        }
    }

    #[test]
    fn every_line_of_the_committed_budget_is_used() {
        let budgets = all().unwrap();
        let kernels: Vec<_> = crate::kernel::registry::all().map(|k| (k, (k.configurations)())).collect();
        let unused = unused(&budgets, &kernels);
        assert!(unused.is_empty(), "{unused:#?}");
    }

    #[test]
    fn no_budget_is_above_what_the_text_declares() {
        let budgets = all().unwrap();
        let ptx = crate::kernel::registry::all().filter(|k| matches!(k.language, crate::kernel::Language::Ptx { .. }));
        for kernel in ptx {
            for configuration in (kernel.configurations)() {
                let budget = of(&budgets, kernel.name, &configuration.name).unwrap();
                let declared = configuration.constants.get_int("REGISTERS").unwrap();
                assert!(i64::from(budget.registers) <= declared, "{} {}", kernel.name, configuration.name);
                assert!(budget.shared >= configuration.shared, "{} {}", kernel.name, configuration.name);
            }
        }
    }
}
