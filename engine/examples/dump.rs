//! Prints the nodes of ONNX graphs as tract sees them: `dump [--declutter] MODEL.onnx...`

use tract_onnx::prelude::{Framework, InferenceModelExt};
use tract_onnx::tract_hir::internal::*;

fn main() -> TractResult<()> {
    let (flags, paths): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|a| a.starts_with("--"));
    for path in paths {
        let model = tract_onnx::onnx().with_ignore_value_info(true).model_for_path(&path)?;
        let n = model.symbols.sym("N");
        let mut model = model
            .with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), tvec!(n.to_dim(), 3.to_dim(), 224.to_dim(), 224.to_dim())))?
            .into_typed()?;
        if flags.iter().any(|f| f == "--declutter") {
            model.declutter()?;
        }
        println!("== {path} outputs {:?}", model.outputs);
        for id in model.eval_order()? {
            let node = model.node(id);
            let facts: Vec<_> = node.outputs.iter().map(|o| format!("{:?}", o.fact)).collect();
            let op = format!("{:?}", node.op);
            println!("{id} {:?} {} {:?} -> {}", node.name, op.chars().take(300).collect::<String>(), node.inputs, facts.join(" | "));
        }
    }
    Ok(())
}
