"""Trained runs on images without ground truth: localize, export, audit, explore, publish."""
