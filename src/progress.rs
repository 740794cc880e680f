//! Progress of long work: a bar for people at a terminal, lines for logs, JSON lines for programs.
//! Everything goes to stderr, so that stdout holds results alone.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The time between two lines of a stage.
const INTERVAL: Duration = Duration::from_secs(1);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all; times are still taken.
    Quiet,
    /// A bar with rate and time left.
    Bar,
    /// Lines of text.
    Plain,
    /// Lines of JSON: `{"stage","done","total","rate","eta_seconds"}`, or `{"note"}`.
    Json,
}

/// Shows the stages of a run and keeps their times.
pub struct Progress {
    mode: Mode,
    sink: Mutex<Box<dyn Write + Send>>,
    times: Mutex<Vec<(String, f64)>>,
    /// What is to be said when the first stage starts.
    notes: Mutex<Vec<String>>,
    /// The most bytes that the plan of any pass has asked for.
    plan: AtomicU64,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Progress").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Progress {
    /// Notes the bytes that a pass will hold.
    pub fn note_plan(&self, bytes: u64) {
        self.plan.fetch_max(bytes, Ordering::Relaxed);
    }
    /// The most bytes noted.
    pub fn plan_bytes(&self) -> u64 {
        self.plan.load(Ordering::Relaxed)
    }
    /// Progress on stderr. A bar needs a terminal; elsewhere [`Mode::Bar`] gives lines of text.
    pub fn new(mode: Mode) -> Self {
        let mode = if mode == Mode::Bar && !std::io::stderr().is_terminal() { Mode::Plain } else { mode };
        Self::to(mode, Box::new(std::io::stderr()))
    }
    fn to(mode: Mode, sink: Box<dyn Write + Send>) -> Self {
        Self { mode, sink: Mutex::new(sink), times: Mutex::default(), notes: Mutex::default(), plan: AtomicU64::new(0) }
    }
    /// Starts a stage of `total` items; `unit` names them in the plural. A `total` of 0 means that
    /// their number is not known.
    pub fn stage(&self, name: &str, total: u64, unit: &str) -> Stage<'_> {
        unpoisoned(&self.notes).drain(..).for_each(|note| self.print_note(&note));
        let bar = (self.mode == Mode::Bar).then(|| bar(name, total, unit));
        let [done, skipped, printed] = [(); 3].map(|()| AtomicU64::new(0));
        Stage { progress: self, name: name.into(), total, unit: unit.into(), start: Instant::now(), done, skipped, printed, bar }
    }
    /// Seconds of wall time of each finished stage, in the order in which they finished.
    pub fn times(&self) -> Vec<(String, f64)> {
        unpoisoned(&self.times).clone()
    }
    /// One line about the run as a whole, said when its first stage starts: work that is refused before
    /// is answered by its error alone.
    pub fn note(&self, text: String) {
        unpoisoned(&self.notes).push(text);
    }
    fn print_note(&self, text: &str) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Bar | Mode::Plain => self.print(&format!("note: {text}")),
            Mode::Json => self.print(&serde_json::json!({ "note": text }).to_string()),
        }
    }
    fn print(&self, line: &str) {
        // A closed stderr must not stop the work: its results go to files.
        let _ = writeln!(unpoisoned(&self.sink), "{line}");
    }
}

/// A list of lines stays usable after a thread that held it has panicked.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bar(name: &str, total: u64, unit: &str) -> ProgressBar {
    let template = format!("{{prefix}} {{wide_bar}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target((total > 0).then_some(total), ProgressDrawTarget::stderr())
        .with_style(style)
        .with_prefix(name.to_string())
}

/// A stage of a run, done when it is dropped. Any thread may add to it.
pub struct Stage<'a> {
    progress: &'a Progress,
    name: String,
    total: u64,
    unit: String,
    start: Instant,
    done: AtomicU64,
    /// Of those, the ones that an earlier run did.
    skipped: AtomicU64,
    /// Milliseconds from the start to the last line.
    printed: AtomicU64,
    bar: Option<ProgressBar>,
}

impl Stage<'_> {
    /// Counts `n` items as done that an earlier run did: they say nothing of the rate.
    pub fn skip(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
        self.skipped.fetch_add(n, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(n);
            bar.reset_eta();
        }
    }
    /// Counts `n` more items as done.
    pub fn add(&self, n: u64) {
        let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
        if let Some(bar) = &self.bar {
            bar.inc(n);
            return;
        }
        let elapsed = self.start.elapsed();
        let (now, last) = (elapsed.as_millis() as u64, self.printed.load(Ordering::Relaxed));
        // Only the thread that moves the mark prints: one line an interval, whoever comes first.
        let is_due = now >= last + INTERVAL.as_millis() as u64;
        if is_due && self.printed.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.report(done, elapsed);
        }
    }
    /// Ends the stage: records its time and reports it once more.
    pub fn finish(self) {}
    fn report(&self, done: u64, elapsed: Duration) {
        let count = Count { done, skipped: self.skipped.load(Ordering::Relaxed), total: self.total };
        match self.progress.mode {
            Mode::Plain | Mode::Bar => self.progress.print(&plain_line(&self.name, &self.unit, count, elapsed)),
            Mode::Json => self.progress.print(&json_line(&self.name, count, elapsed)),
            Mode::Quiet => {}
        }
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        let elapsed = self.start.elapsed();
        if let Some(bar) = &self.bar {
            // The line that stays behind is the one that a log would show.
            bar.finish_and_clear();
        }
        self.report(self.done.load(Ordering::Relaxed), elapsed);
        unpoisoned(&self.progress.times).push((self.name.clone(), elapsed.as_secs_f64()));
    }
}

/// How far a stage is.
#[derive(Clone, Copy, Debug)]
struct Count {
    done: u64,
    skipped: u64,
    total: u64,
}

/// Items a second, and the seconds that the rest takes at that rate, where both can be told.
fn rate_and_eta(Count { done, skipped, total }: Count, elapsed: Duration) -> (f64, Option<f64>) {
    let rate = if elapsed.is_zero() { 0.0 } else { (done - skipped) as f64 / elapsed.as_secs_f64() };
    let eta = (rate > 0.0 && total > 0).then(|| total.saturating_sub(done) as f64 / rate);
    (rate, eta)
}

fn plain_line(name: &str, unit: &str, count: Count, elapsed: Duration) -> String {
    let ((rate, eta), Count { done, total, .. }) = (rate_and_eta(count, elapsed), count);
    let of = if total > 0 { format!("/{total}") } else { String::new() };
    let left = eta.map_or(String::new(), |s| format!(", {s:.0} s left"));
    format!("{name}: {done}{of} {unit}, {rate:.1}/s{left}")
}

fn json_line(name: &str, count: Count, elapsed: Duration) -> String {
    let (rate, eta) = rate_and_eta(count, elapsed);
    serde_json::json!({"stage": name, "done": count.done, "total": count.total, "rate": rate, "eta_seconds": eta}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn json_lines_parse_and_count_every_thread() {
        let lines = Lines::default();
        let progress = Progress::to(Mode::Json, Box::new(lines.clone()));
        let stage = progress.stage("grams", 400, "samples");
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..100).for_each(|_| stage.add(1)));
            }
        });
        stage.finish();
        let text = lines.text();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(
            (last["stage"].as_str(), last["done"].as_u64(), last["total"].as_u64()),
            (Some("grams"), Some(400), Some(400))
        );
        assert_eq!(last["eta_seconds"].as_f64(), Some(0.0));
        assert!(last["rate"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn a_fast_stage_prints_one_line_and_a_slow_one_a_line_a_second() {
        let lines = Lines::default();
        let progress = Progress::to(Mode::Plain, Box::new(lines.clone()));
        let stage = progress.stage("edges", 1000, "blocks");
        (0..1000).for_each(|_| stage.add(1));
        assert_eq!(lines.text(), "");
        drop(stage);
        assert_eq!(lines.text().lines().count(), 1);
        let mut stage = progress.stage("edges", 1000, "blocks");
        stage.start -= Duration::from_millis(1500);
        (0..1000).for_each(|_| stage.add(1));
        assert_eq!(lines.text().lines().count(), 2);
    }

    #[test]
    fn lines_hold_rate_and_time_left() {
        let four = Duration::from_secs(4);
        let count = |done, total| Count { done, skipped: 0, total };
        assert_eq!(plain_line("grams", "samples", count(8, 20), four), "grams: 8/20 samples, 2.0/s, 6 s left");
        assert_eq!(plain_line("grams", "samples", count(8, 0), four), "grams: 8 samples, 2.0/s");
        let resumed = Count { done: 18, skipped: 16, total: 20 };
        assert_eq!(plain_line("grams", "samples", resumed, four), "grams: 18/20 samples, 0.5/s, 4 s left");
        assert_eq!(json_line("a\"b", count(0, 5), four), r#"{"stage":"a\"b","done":0,"total":5,"rate":0.0,"eta_seconds":null}"#);
        assert_eq!(
            json_line("a", count(8, 20), Duration::ZERO),
            r#"{"stage":"a","done":8,"total":20,"rate":0.0,"eta_seconds":null}"#
        );
    }

    #[test]
    fn keeps_times_in_order_and_is_quiet_when_asked() {
        let lines = Lines::default();
        let progress = Progress::to(Mode::Quiet, Box::new(lines.clone()));
        let outer = progress.stage("outer", 1, "runs");
        drop(progress.stage("inner", 1, "runs"));
        outer.finish();
        let names: Vec<String> = progress.times().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["inner", "outer"]);
        assert!(progress.times().iter().all(|(_, s)| *s >= 0.0));
        assert_eq!(lines.text(), "");
    }
}
