"""The gRPC half of the stand-in: the client's own servicers and converters over the same collections."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from qdrant_client import grpc as wire
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import (
    CollectionsServicer,
    PointsServicer,
    QdrantServicer,
    add_CollectionsServicer_to_server,
    add_PointsServicer_to_server,
    add_QdrantServicer_to_server,
)

from tests.vectors.qdrant_stand_in import MAX_REQUEST_BYTES, Refused, StandIn

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    413: grpc.StatusCode.OUT_OF_RANGE,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


def _served(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
    def answer(self: Any, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401  a message
        key = dict(context.invocation_metadata()).get("api-key")
        try:
            return self.stand_in.run(method.__name__, key, request.ByteSize(), lambda: method(self, request))
        except Refused as refused:
            context.abort(_CODES.get(refused.status, grpc.StatusCode.INTERNAL), str(refused))

    return answer


def _optional(message: Any, field: str, convert: Callable[[Any], Any]) -> Any:  # noqa: ANN401  a message
    return convert(getattr(message, field)) if message.HasField(field) else None


def _record(record: models.Record) -> wire.RetrievedPoint:
    return RestToGrpc.convert_record(record.model_copy(update={"payload": record.payload or {}}))


def _done() -> wire.PointsOperationResponse:
    return wire.PointsOperationResponse(result=wire.UpdateResult(operation_id=0, status=wire.UpdateStatus.Completed))


class _Root(QdrantServicer):
    def __init__(self, stand_in: StandIn) -> None:
        self.stand_in = stand_in

    @_served
    def HealthCheck(self, _: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        return wire.HealthCheckReply(title="qdrant stand-in", version=self.stand_in.version)


class _Collections(CollectionsServicer):
    def __init__(self, stand_in: StandIn) -> None:
        self.stand_in = stand_in

    @_served
    def CollectionExists(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        exists = self.stand_in.exists(request.collection_name)
        return wire.CollectionExistsResponse(result=wire.CollectionExists(exists=exists))

    @_served
    def Create(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        body = models.CreateCollection(
            vectors=GrpcToRest.convert_vectors_config(request.vectors_config),
            quantization_config=_optional(request, "quantization_config", GrpcToRest.convert_quantization_config),
            shard_number=_optional(request, "shard_number", int),
            replication_factor=_optional(request, "replication_factor", int),
            write_consistency_factor=_optional(request, "write_consistency_factor", int),
            on_disk_payload=_optional(request, "on_disk_payload", bool),
            hnsw_config=_optional(request, "hnsw_config", GrpcToRest.convert_hnsw_config_diff),
            optimizers_config=_optional(request, "optimizers_config", GrpcToRest.convert_optimizers_config_diff),
            strict_mode_config=_optional(request, "strict_mode_config", GrpcToRest.convert_strict_mode_config),
        )
        return wire.CollectionOperationResponse(result=self.stand_in.create(request.collection_name, body))

    @_served
    def Get(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        info = RestToGrpc.convert_collection_info(self.stand_in.info(request.collection_name))
        return wire.GetCollectionInfoResponse(result=info)

    @_served
    def Delete(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        return wire.CollectionOperationResponse(result=self.stand_in.drop(request.collection_name))


class _Points(PointsServicer):
    def __init__(self, stand_in: StandIn) -> None:
        self.stand_in = stand_in

    @_served
    def CreateFieldIndex(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        if request.HasField("field_index_params"):
            schema = GrpcToRest.convert_payload_schema_params(request.field_index_params)
        else:
            schema = wire.FieldType.Name(request.field_type).removeprefix("FieldType").lower()
        self.stand_in.index(request.collection_name, request.field_name, schema)
        return _done()

    @_served
    def DeleteFieldIndex(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        self.stand_in.drop_index(request.collection_name, request.field_name)
        return _done()

    @_served
    def Upsert(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        self.stand_in.upsert(request.collection_name, [GrpcToRest.convert_point_struct(p) for p in request.points])
        return _done()

    @_served
    def Delete(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        self.stand_in.delete(request.collection_name, GrpcToRest.convert_points_selector(request.points))
        return _done()

    @_served
    def UpdateBatch(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        operations = [GrpcToRest.convert_points_update_operation(operation) for operation in request.operations]
        self.stand_in.batch(request.collection_name, operations)
        done = wire.UpdateResult(operation_id=0, status=wire.UpdateStatus.Completed)
        return wire.UpdateBatchResponse(result=[done for _ in operations])

    @_served
    def Get(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        body = models.PointRequest(
            ids=[GrpcToRest.convert_point_id(identifier) for identifier in request.ids],
            with_payload=_optional(request, "with_payload", GrpcToRest.convert_with_payload_selector),
            with_vector=_optional(request, "with_vectors", GrpcToRest.convert_with_vectors_selector),
        )
        records = self.stand_in.retrieve(request.collection_name, body)
        return wire.GetResponse(result=[_record(record) for record in records])

    @_served
    def Scroll(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        body = models.ScrollRequest(
            limit=_optional(request, "limit", int),
            offset=_optional(request, "offset", GrpcToRest.convert_point_id),
            filter=_optional(request, "filter", GrpcToRest.convert_filter),
            order_by=_optional(request, "order_by", GrpcToRest.convert_order_by),
        )
        found = self.stand_in.scroll(request.collection_name, body)
        following = found.next_page_offset
        return wire.ScrollResponse(
            result=[_record(record) for record in found.points],
            next_page_offset=None if following is None else RestToGrpc.convert_extended_point_id(following),
        )

    @_served
    def Count(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        found = self.stand_in.count(request.collection_name, _optional(request, "filter", GrpcToRest.convert_filter))
        return wire.CountResponse(result=wire.CountResult(count=found.count))

    @_served
    def Facet(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        body = models.FacetRequest(
            key=request.key,
            limit=_optional(request, "limit", int),
            exact=_optional(request, "exact", bool),
            filter=_optional(request, "filter", GrpcToRest.convert_filter),
        )
        found = self.stand_in.facet(request.collection_name, body)
        return wire.FacetResponse(hits=[RestToGrpc.convert_facet_value_hit(hit) for hit in found.hits])

    @_served
    def QueryBatch(self, request: Any) -> Any:  # noqa: N802, ANN401  the name on the wire
        answers = [
            self.stand_in.query(request.collection_name, GrpcToRest.convert_query_points(query))
            for query in request.query_points
        ]
        return wire.QueryBatchResponse(
            result=[
                wire.BatchResult(result=[RestToGrpc.convert_scored_point(point) for point in answer.points])
                for answer in answers
            ]
        )


class GrpcServer:
    """The gRPC half on a free port of this machine."""

    def __init__(self, stand_in: StandIn) -> None:
        options = [("grpc.max_receive_message_length", MAX_REQUEST_BYTES), ("grpc.max_send_message_length", -1)]
        self._server = grpc.server(ThreadPoolExecutor(4), options=options)
        add_QdrantServicer_to_server(_Root(stand_in), self._server)  # type: ignore[no-untyped-call]  # generated
        add_CollectionsServicer_to_server(_Collections(stand_in), self._server)  # type: ignore[no-untyped-call]  # generated
        add_PointsServicer_to_server(_Points(stand_in), self._server)  # type: ignore[no-untyped-call]  # generated
        self.port = int(self._server.add_insecure_port("127.0.0.1:0"))
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()
