//! Pipelines of this process.

use anyhow::{Context, anyhow, bail};
use gst::prelude::*;
use gst_app::AppSink;

/// The pipeline of this description.
pub(crate) fn parse(text: &str) -> anyhow::Result<gst::Pipeline> {
    let element = gst::parse::launch(text).with_context(|| format!("in '{text}'"))?;
    element
        .downcast()
        .map_err(|_| anyhow!("'{text}' is no pipeline"))
}

/// Its element of this name.
pub(crate) fn child(pipeline: &gst::Pipeline, name: &str) -> anyhow::Result<gst::Element> {
    let child = pipeline.by_name(name);
    child.with_context(|| format!("the pipeline has no element '{name}'"))
}

/// Its appsink, which is called `out`.
pub(crate) fn out(pipeline: &gst::Pipeline) -> anyhow::Result<AppSink> {
    let out = child(pipeline, "out")?;
    out.downcast().map_err(|_| anyhow!("not an appsink"))
}

/// All that the pipeline of this description gives to its [`out`], without durations.
pub(crate) fn buffers(text: &str) -> anyhow::Result<Vec<gst::Buffer>> {
    let pipeline = parse(text)?;
    let out = out(&pipeline)?;
    pipeline.set_state(gst::State::Playing)?;
    let mut buffers = Vec::new();
    while let Ok(sample) = out.pull_sample() {
        let mut buffer = sample.buffer_owned().context("a sample without a buffer")?;
        buffer.make_mut().set_duration(None);
        buffers.push(buffer);
    }
    let failure = failure(&pipeline);
    pipeline.set_state(gst::State::Null)?;
    match failure {
        Some(failure) => Err(failure),
        None if buffers.is_empty() => bail!("'{text}' gives nothing"),
        None => Ok(buffers),
    }
}

/// The error that the pipeline posted, if it did.
pub(crate) fn failure(pipeline: &gst::Pipeline) -> Option<anyhow::Error> {
    let message = pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
    let gst::MessageView::Error(error) = message.view() else {
        return None;
    };
    let from = error.src().map(|src| src.name()).unwrap_or_default();
    Some(anyhow!("{from}: {}", error.error()))
}
