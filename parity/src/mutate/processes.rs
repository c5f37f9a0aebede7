//! Correct variants that need a process of their own: other thread counts, other kernels of the linear algebra library.
//!
//! Each is the same run again, in a process with an environment variable set; whoever calls starts it.

use mlxport_verdict::{Run, VariantRecord, Verdict};

/// OpenBLAS's kernels by their names, with the processor feature that each needs.
const KERNELS: [(&str, Feature); 5] = [
    ("Prescott", Feature::Any),
    ("Nehalem", Feature::Sse42),
    ("Sandybridge", Feature::Avx),
    ("Haswell", Feature::Avx2),
    ("SkylakeX", Feature::Avx512),
];

#[derive(Debug, Clone, Copy)]
enum Feature {
    Any,
    Sse42,
    Avx,
    Avx2,
    Avx512,
}

/// Runs them all. `run` makes the record in a process with these environment variables set, or says why it cannot. What this machine cannot
/// run is listed as not run, with the reason.
pub fn variants_in_processes(run: impl Fn(&[(&str, &str)]) -> Result<Run, String>) -> Vec<VariantRecord> {
    let plain = run(&[]).ok();
    let threads = ["1", "2", "3", "4"].map(|count| {
        let environment = [("OPENBLAS_NUM_THREADS", count), ("OMP_NUM_THREADS", count)];
        record(&format!("{count} thread(s)"), run(&environment), plain.as_ref())
    });
    let kernels = KERNELS.map(|(name, needs)| {
        let made = here(needs).and_then(|()| run(&[("OPENBLAS_CORETYPE", name)]));
        record(&format!("OpenBLAS's {name} kernels"), made, plain.as_ref())
    });
    threads.into_iter().chain(kernels).collect()
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn here(needs: Feature) -> Result<(), String> {
    let found = match needs {
        Feature::Any => true,
        Feature::Sse42 => std::arch::is_x86_feature_detected!("sse4.2"),
        Feature::Avx => std::arch::is_x86_feature_detected!("avx"),
        Feature::Avx2 => std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"),
        Feature::Avx512 => std::arch::is_x86_feature_detected!("avx512f"),
    };
    if found { Ok(()) } else { Err(format!("this processor has no {needs:?}")) }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn here(_needs: Feature) -> Result<(), String> {
    Err("OpenBLAS's x86-64 kernels are used on Linux only".into())
}

fn record(name: &str, run: Result<Run, String>, plain: Option<&Run>) -> VariantRecord {
    let errors = |run: &Run| run.taps.iter().map(|tap| tap.error().map(f64::to_bits)).collect::<Vec<_>>();
    match run {
        // This machine's own threads and kernels, or others that add alike: no other way to compute.
        Ok(run) if plain.is_some_and(|plain| errors(plain) == errors(&run)) => {
            VariantRecord::not_run(name, "on this machine it computes the very numbers of the run as it is")
        }
        Ok(run) => VariantRecord {
            name: name.to_owned(),
            passed: run.summary.verdict == Verdict::Pass,
            worst: run.summary.worst.first().cloned(),
            changed: true,
            not_run: None,
        },
        Err(why) => {
            VariantRecord { name: name.to_owned(), passed: false, worst: None, changed: false, not_run: Some(why) }
        }
    }
}
