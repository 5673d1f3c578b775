//! Whether two models say the same of the same pictures.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::{LoadOptions, Loaded, Tensor, load};
use crate::config::{Normalize, Precision};
use crate::parts::in_parts;
use crate::{Error, Result};

/// Pictures by number, as the network takes them.
pub type Pictures<'a> = dyn Fn(usize) -> Result<Tensor> + Sync + 'a;

/// Two best scores nearer to each other than this say that the network is torn between two classes: which one comes first means little.
pub const TORN: f32 = 0.02;

/// What one model says of one picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// The best class.
    pub best: u32,
    /// Its score less that of the second.
    pub margin: f32,
    /// Empty where there is none.
    pub embedding: Vec<f32>,
}

/// How far two models are apart on a set of pictures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Pictures that both were run on.
    pub pictures: usize,
    /// Those of which the first model is sure: its two best scores differ by more than [`TORN`].
    pub sure: usize,
    /// Those of the sure ones that both give the same best label.
    pub same_label: usize,
    /// Mean cosine of the two embeddings over all pictures; null where a model has no embedding, or one of another length.
    pub cosine_mean: Option<f64>,
    /// The least of them.
    pub cosine_least: Option<f64>,
}

/// What a comparison has to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bar {
    /// Share of the sure pictures that get the same label.
    pub agreement: f64,
    /// Mean cosine of the embeddings.
    pub cosine: f64,
}

impl Default for Bar {
    fn default() -> Self {
        Self { agreement: 0.98, cosine: 0.99 }
    }
}

impl Comparison {
    /// Compares answers picture by picture; `a` is the model that may be sure.
    pub(super) fn of(a: &[Answer], b: &[Answer]) -> Self {
        let sure: Vec<_> = a.iter().zip(b).filter(|(a, _)| a.margin > TORN).collect();
        let cosines: Option<Vec<f64>> = a.iter().zip(b).map(|(a, b)| cosine(&a.embedding, &b.embedding)).collect();
        let cosines = cosines.filter(|all| !all.is_empty());
        Self {
            pictures: a.len().min(b.len()),
            sure: sure.len(),
            same_label: sure.iter().filter(|(a, b)| a.best == b.best).count(),
            cosine_mean: cosines.as_ref().map(|all| all.iter().sum::<f64>() / all.len() as f64),
            cosine_least: cosines.map(|all| all.into_iter().fold(f64::INFINITY, f64::min)),
        }
    }

    /// Share of the sure pictures that get the same label; 1 where there are none.
    pub fn agreement(&self) -> f64 {
        if self.sure == 0 { 1.0 } else { self.same_label as f64 / self.sure as f64 }
    }

    /// Whether anything was compared.
    fn says_something(&self) -> bool {
        self.sure > 0 || self.cosine_mean.is_some()
    }

    /// What is missing, in words.
    pub fn short_of(&self, bar: &Bar) -> String {
        let mut all = Vec::new();
        if !self.says_something() {
            all.push("nothing could be compared: no picture of which the first model is sure, and no embeddings of one length".to_owned());
        }
        if self.agreement() < bar.agreement {
            let (got, due) = (100.0 * self.agreement(), 100.0 * bar.agreement);
            all.push(format!(
                "of the pictures that the first is sure of, the same label on {} of {} ({got:.1}%), {due:.1}% are asked for (--min-agreement)",
                self.same_label, self.sure
            ));
        }
        if let Some(cosine) = self.cosine_mean.filter(|c| *c < bar.cosine) {
            all.push(format!("mean cosine of the embedding {cosine:.4}, {:.4} is asked for (--min-cosine)", bar.cosine));
        }
        all.join("; ")
    }

    /// Whether it is good enough. Embeddings count where both models have one.
    pub fn reaches(&self, bar: &Bar) -> bool {
        self.says_something() && self.agreement() >= bar.agreement && self.cosine_mean.is_none_or(|c| c >= bar.cosine)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pictures    {}, of which the first model is sure of {}", self.pictures, self.sure)?;
        match self.sure {
            0 => writeln!(f, "agreement   not known: on no picture do the two best scores differ by more than {TORN}")?,
            sure => writeln!(f, "agreement   {:.1}% of those ({} of {sure})", 100.0 * self.agreement(), self.same_label)?,
        }
        match (self.cosine_mean, self.cosine_least) {
            (Some(mean), Some(least)) => writeln!(f, "embedding   cosine {mean:.4} on average, {least:.4} at least"),
            _ => writeln!(f, "embedding   not compared: a model has none, or the two are of different lengths"),
        }
    }
}

/// Cosine of the angle between two vectors; `None` for empty ones or of different lengths. Two vectors of zeros are the same.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let product = dot(a, a) * dot(b, b);
    (!a.is_empty() && a.len() == b.len()).then(|| if product > 0.0 { dot(a, b) / product.sqrt() } else { f64::from(u8::from(a == b)) })
}

/// What `loaded` says of pictures. It must have been loaded for two labels at least.
pub(super) fn answers(loaded: &Loaded, read: &Pictures<'_>, pictures: &[usize]) -> Result<Vec<Answer>> {
    let parts = in_parts(pictures.len(), |part| {
        let one = |&picture: &usize| {
            let said = loaded.model.predict(&[&read(picture)?]).remove(0);
            let said = said.map_err(|e| Error::failed(format_args!("{}: {e}", loaded.info().id)))?;
            let score = |nth: usize| said.labels.get(nth).map_or(0.0, |l| l.score);
            let best = said.labels.first().map_or(0, |l| l.index);
            Ok(Answer { best, margin: score(0) - score(1), embedding: said.embedding })
        };
        pictures[part].iter().map(one).collect::<Result<Vec<_>>>()
    })?;
    Ok(parts.into_iter().flatten().collect())
}

/// Loads a model so that it can be compared.
///
/// # Errors
/// As [`load`].
pub fn load_to_compare(path: &Path, precision: Precision) -> Result<Loaded> {
    let options = LoadOptions { precision, top_k: 2, min_score: f32::NEG_INFINITY, normalize: Normalize::None, ..LoadOptions::default() };
    // A graph without an embedding can still be compared by its labels.
    load(path, &options).or_else(|error| match load(path, &LoadOptions { want_embedding: false, ..options }) {
        Ok(loaded) => Ok(loaded),
        Err(_) => Err(error),
    })
}

/// Runs two models on the same pictures. Each reads its pictures its own way: what prepares them belongs to the model.
///
/// # Errors
/// [`Error::Config`] if they have different classes, by number or by name; [`Error::Failed`] if a picture cannot be read or a model fails on it.
pub fn compare(a: (&Loaded, &Pictures<'_>), b: (&Loaded, &Pictures<'_>), pictures: &[usize]) -> Result<Comparison> {
    let classes = [a.0.info().classes, b.0.info().classes];
    if classes[0] != classes[1] {
        return Err(Error::config(format_args!(
            "{} has {} classes and {} has {}: their labels cannot be compared",
            a.0.info().id,
            classes[0],
            b.0.info().id,
            classes[1]
        )));
    }
    let has_names = |of: &Loaded| of.labels.iter().enumerate().any(|(index, name)| **name != *index.to_string());
    let other = a.0.labels.iter().zip(b.0.labels.iter()).position(|(a, b)| a != b);
    if let Some(class) = other.filter(|_| has_names(a.0) && has_names(b.0)) {
        return Err(Error::config(format_args!(
            "class {class} is {:?} in {} and {:?} in {}: the same class would be another label; give both the labels file that belongs to the network",
            a.0.labels[class],
            a.0.path.display(),
            b.0.labels[class],
            b.0.path.display()
        )));
    }
    Ok(Comparison::of(&answers(a.0, a.1, pictures)?, &answers(b.0, b.1, pictures)?))
}

#[cfg(test)]
mod tests {
    use super::super::{Arch, init};
    use super::*;

    fn answer(best: u32, margin: f32, embedding: [f32; 2]) -> Answer {
        Answer { best, margin, embedding: embedding.into() }
    }

    #[test]
    fn pictures_on_which_the_first_is_torn_do_not_count() {
        let a = [answer(1, 0.5, [1.0, 0.0]), answer(2, 0.01, [1.0, 0.0]), answer(3, 0.3, [0.0, 2.0])];
        let b = [answer(1, 0.0, [2.0, 0.0]), answer(7, 0.9, [1.0, 0.0]), answer(4, 0.3, [3.0, 0.0])];
        let c = Comparison::of(&a, &b);
        assert_eq!((c.pictures, c.sure, c.same_label, c.agreement()), (3, 2, 1, 0.5));
        assert!((c.cosine_mean.unwrap() - 2.0 / 3.0).abs() < 1e-9 && c.cosine_least == Some(0.0));
        assert!(c.reaches(&Bar { agreement: 0.5, cosine: 0.6 }));
        assert!(!c.reaches(&Bar { agreement: 0.51, cosine: 0.6 }) && !c.reaches(&Bar { agreement: 0.5, cosine: 0.67 }));
    }

    #[test]
    fn embeddings_of_other_lengths_are_not_compared() {
        let a = [answer(1, 0.5, [1.0, 0.0])];
        let b = [Answer { embedding: vec![], ..a[0].clone() }];
        let c = Comparison::of(&a, &b);
        assert_eq!((c.cosine_mean, c.cosine_least, c.agreement()), (None, None, 1.0));
        assert!(c.reaches(&Bar::default()));
        let torn = [Answer { margin: 0.0, ..a[0].clone() }];
        let nothing = Comparison::of(&torn, &b);
        assert!(
            !nothing.reaches(&Bar { agreement: 0.0, cosine: 0.0 })
                && nothing.short_of(&Bar::default()).contains("nothing could be compared")
        );
        assert_eq!(cosine(&[0.0, 0.0], &[0.0, 0.0]), Some(1.0), "two of nothing are the same");
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), Some(0.0));
    }

    #[test]
    fn one_picture_is_not_one_pictures() {
        let (a, b) = ([answer(1, 0.5, [1.0, 0.0])], [answer(2, 0.5, [1.0, 0.0])]);
        let short = Comparison::of(&a, &b).short_of(&Bar::default());
        assert!(short.starts_with("of the pictures that the first is sure of, the same label on 0 of 1 (0.0%)"), "{short}");
    }

    #[test]
    fn classes_of_other_names_are_told_with_both_paths() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        let loaded = [(&a, "cat"), (&b, "dog")].map(|(path, first)| {
            init(Arch::Tiny, 1, path, None).unwrap();
            let names = std::fs::read_to_string(path.join("labels.txt")).unwrap().replace("class 0", first);
            std::fs::write(path.join("labels.txt"), names).unwrap();
            load_to_compare(path, Precision::F32).unwrap()
        });
        assert_eq!(loaded[0].info().id, loaded[1].info().id, "their ids do not tell them apart");
        let none = |_: usize| -> Result<Tensor> { Err(Error::failed("no picture is asked for")) };
        let error = compare((&loaded[0], &none), (&loaded[1], &none), &[]).unwrap_err().to_string();
        let due = format!("class 0 is \"cat\" in {} and \"dog\" in {}: ", a.display(), b.display());
        assert!(error.starts_with(&due), "{error}");
    }
}
