//! What wgpu reports, turned into errors: error scopes around calls, and the two callbacks for what
//! no call can report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use ::wgpu::{Device, ErrorFilter, PollType};

use super::Wgpu;
use crate::error::{Error, Result};

/// The first failure that the device met outside of a scope: once there is one, nothing that it
/// computes can be trusted.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure(Arc<Mutex<Option<String>>>);

impl Failure {
    /// Installs the callbacks.
    pub fn watch(device: &Device) -> Self {
        let failure = Self::default();
        let (lost, uncaptured) = (failure.clone(), failure.clone());
        device.set_device_lost_callback(move |_, message| {
            let message = one_line(&message);
            lost.set(if message.is_empty() { "the device is lost".into() } else { format!("the device is lost: {message}") });
        });
        device.on_uncaptured_error(Arc::new(move |e| uncaptured.set(one_line(&e.to_string()))));
        failure
    }
    fn set(&self, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }
    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A message of several lines as one sentence.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Wgpu {
    /// Runs `f`; what wgpu reports meanwhile is handed to `error`.
    pub(super) fn scoped<R>(&self, f: impl FnOnce() -> R, error: impl FnOnce(String) -> Error) -> Result<R> {
        let filters = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let result = f();
        // Scopes close in the reverse order of their opening, all of them.
        let reports = scopes.into_iter().rev().map(|scope| pollster::block_on(scope.pop()));
        let found = reports.fold(None, |first: Option<::wgpu::Error>, next| first.or(next));
        match (self.failure.get(), found) {
            (Some(lost), _) => Err(error(lost)),
            (None, Some(e)) => Err(error(e.to_string())),
            (None, None) => Ok(result),
        }
    }

    /// An [`Error::Driver`] of this device.
    pub(super) fn driver_error(&self, action: impl Into<String>, found: impl AsRef<str>) -> Error {
        Error::Driver { device: self.adapter.name.clone(), action: action.into(), found: one_line(found.as_ref()) }
    }

    /// Waits for the device.
    pub(super) fn poll(&self, action: &str) -> Result<()> {
        // wgpu panics where a device is lost during the wait.
        let polled = catch_unwind(AssertUnwindSafe(|| self.device.poll(PollType::wait_indefinitely())));
        let found = match (self.failure.get(), polled) {
            (Some(lost), _) => lost,
            (None, Ok(Ok(_))) => return Ok(()),
            (None, Ok(Err(e))) => e.to_string(),
            (None, Err(_)) => "the device is lost".into(),
        };
        Err(self.driver_error(action, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_device_is_an_error_of_every_later_call() {
        let Ok(device) = Wgpu::open(Some("llvmpipe")) else {
            println!("skipped: wgpu llvmpipe is absent");
            return;
        };
        let buffer = device.buffer_of(&[1; 64]).unwrap();
        device.device.destroy();
        for text in [
            device.wait().unwrap_err().to_string(),
            device.download(&buffer, 0..64).unwrap_err().to_string(),
            device.buffer(64).unwrap_err().to_string(),
            device.upload(&buffer, 0, &[2; 8]).unwrap_err().to_string(),
        ] {
            assert!(text.starts_with(&format!("device {}: ", device.adapter().name)) && text.contains("lost"), "{text}");
        }
    }

    #[test]
    fn a_message_of_several_lines_becomes_one() {
        assert_eq!(one_line("Validation Error\n\nCaused by:\n  In f\n    bad\n"), "Validation Error Caused by: In f bad");
    }
}
