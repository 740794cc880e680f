//! Tables on stdout.

/// Rows with their cells right-aligned but the last, two spaces between.
pub fn columns(rows: &[Vec<String>]) -> String {
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let line = |r: &Vec<String>| {
        let Some((last, cells)) = r.split_last() else { return String::new() };
        cells.iter().enumerate().map(|(c, cell)| format!("{cell:>0$}  ", width(c))).collect::<String>() + last + "\n"
    };
    rows.iter().map(line).collect()
}
