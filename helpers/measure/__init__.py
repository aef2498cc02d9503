"""Is an explanation any good? Agreement, localisation, faithfulness, sanity, statistics."""
