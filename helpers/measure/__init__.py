"""Is an explanation any good?"""
