//! The same as one page that needs nothing else: figures, and plots over the time of the run.

use std::fmt::Write as _;

use plotters::prelude::*;

use super::report::{Point, Report};

const SIZE: (u32, u32) = (760, 240);

/// # Errors
/// A sentence: a plot could not be drawn.
pub(super) fn page(report: &Report) -> Result<String, String> {
    let points = report.series();
    let ms = |micros: u64| micros as f64 / 1e3;
    let plots = [
        plot(
            "latency, ms: p50 and p99",
            points,
            &[&|one| Some(ms(one.p50_us)), &|one| Some(ms(one.p99_us))],
        )?,
        plot("deliveries a second", points, &[&|one| Some(one.rate)])?,
        plot("the server's CPUs", points, &[&|one| one.server_cpu])?,
        plot(
            "the server's memory, MB",
            points,
            &[&|one| one.server_rss_bytes.map(|bytes| bytes as f64 / 1e6)],
        )?,
    ];
    let (mut rows, mut remarks) = (String::new(), String::new());
    for (name, value) in report.rows() {
        let _ = write!(rows, "<tr><th>{name}<td>{}", escaped(&value));
    }
    for one in report.remarks() {
        let _ = write!(remarks, "<p>{}", escaped(&one));
    }
    let title = escaped(&report.title());
    Ok(format!(
        "<!doctype html><meta charset=utf-8><title>{title}</title>\
         <style>body{{font:15px sans-serif;max-width:780px;margin:2em auto}}th{{text-align:left;padding-right:1em}}</style>\
         <h1>campanile load</h1><p>{title}<table>{rows}</table>{remarks}{}\
         <script type=application/json id=figures>{}</script>",
        plots.concat(),
        report.json().replace("</", "<\\/"),
    ))
}

type Of<'a> = &'a dyn Fn(&Point) -> Option<f64>;

/// Nothing, when nobody measured it.
fn plot(title: &str, points: &[Point], lines: &[Of<'_>]) -> Result<String, String> {
    let highest = lines.iter().flat_map(|of| points.iter().filter_map(of)).fold(0.0, f64::max);
    if highest == 0.0 {
        return Ok(String::new());
    }
    let end = points.last().map_or(1.0, |one| one.seconds).max(1.0);
    let mut svg = String::new();
    let fault = |error: &dyn std::fmt::Display| format!("a plot: {error}");
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(64)
            .caption(title, ("sans-serif", 16))
            .build_cartesian_2d(0.0..end, 0.0..highest * 1.05)
            .map_err(|error| fault(&error))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| fault(&error))?;
        for (of, colour) in lines.iter().zip([BLUE, RED]) {
            let line = points.iter().filter_map(|one| Some((one.seconds, of(one)?)));
            chart.draw_series(LineSeries::new(line, colour)).map_err(|error| fault(&error))?;
        }
        area.present().map_err(|error| fault(&error))?;
    }
    Ok(svg)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
