fn main() {
    let args: Vec<String> = std::env::args().collect();
    let r = mlxport_audit::audit(&mlxport_audit::Request {
        mlx: args[1].clone().into(),
        release: args[2].clone().into(),
        names: (args[1].clone(), args[2].clone()),
        may_drop: vec![],
        recipe: None,
        strict: false,
        memory: 192 << 20,
    });
    match r {
        Ok(r) => print!("{}", serde_json::to_string(&r).unwrap_or_default()),
        Err(e) => print!("{}", serde_json::json!({"error": e.to_string()})),
    }
}
