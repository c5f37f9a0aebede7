"""Numeric bugs of Python ports that were found and fixed in public, planted again: does `mlxport check` find each?"""
