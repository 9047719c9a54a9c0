"""The studio: the page that `luthier serve` shows at `/`. No build step; it loads nothing from
elsewhere.
"""
