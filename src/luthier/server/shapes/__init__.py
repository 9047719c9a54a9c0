"""What the routes take and answer, as pydantic models: OpenAPI is made from them, and answers are
checked against them before they are sent.
"""
