"""The routes, one module a subject; `service.app` puts them together.

Each route says who may call it, in one line between its `@router` line and its function:

    @router.put("/v1/items/{item_id:path}", ...)
    @needs("write")                                     # or "search", "admin", "metrics", "nothing" (open to all)
    async def put_item(item_id: ItemId, chosen: Chosen, ...) -> Response:

`service.access.guard` holds the route to it before the route's own code runs and before a photo's body is read. A route
without the line needs `admin`, and `tests/service/access/test_access_routes.py` fails for it. The gallery comes from
`service.routes.gallery_choice`, which knows the client's key: `Chosen`, or `gallery_for(request, name)`.
"""
