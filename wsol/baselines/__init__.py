"""What a method is compared with: post-hoc maps, few-shot supervision, trivial localizers."""
