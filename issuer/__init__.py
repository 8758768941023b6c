"""The vendor's side: programs and certifies Feature Keys, issues license keys and signed license lists."""
