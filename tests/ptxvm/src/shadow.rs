//! Who touched which bytes of a launch.
pub(crate) struct GlobalPage;
